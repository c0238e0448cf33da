"""How many images a second does the detector screen, against the straightforward implementation of the same model?"""

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import click
import torch
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.bench.results import save, show
from tests.bench.rounds import Row, Task, compare, take_turns
from tests.bench.straightforward import ANSWER_TOKENS, Straightforward
from worker.commands.runtime import DTYPES, default_weights
from worker.defakerone import DeFakerOne
from worker.defakerone.checkpoint import build_on_meta, fill
from worker.defakerone.config import PRESETS
from worker.defakerone.metadata import Metadata
from worker.defakerone.placement import choose_device, choose_dtype
from worker.defakerone.preprocessing import Prepared, blank
from worker.defakerone.prompt import PromptConfig
from worker.defakerone.settings import InferenceSettings, MaskMode
from worker.defakerone.tokenizer import Tokenizer

FIXTURE = Path(__file__).parents[1] / "fixtures" / "defakerone"
TRAINED_ANSWER_TOKENS = 12  # about
# Pictures as platforms get them, width x height: portraits, landscapes, squares, documents, thumbnails.
SIZES = [(1600, 1200), (1200, 1600), (1080, 1080), (1920, 1080), (1240, 1754), (640, 480), (750, 1334), (400, 300)]


@click.command()
@click.option("--weights", type=click.Path(path_type=Path), help="Checkpoint folder; default: the bundled one.")
@click.option("--preset", type=click.Choice(list(PRESETS)), help="Random weights of this size instead of a checkpoint.")
@click.option("--device", default="auto", show_default=True)
@click.option("--dtype", default="auto", show_default=True, type=click.Choice(DTYPES))
@click.option("--images", default=16, show_default=True, help="Images a measurement; unlike sizes.")
@click.option(
    "--reference-images", type=int, help="Images for the straightforward way, which is slow; default: as many."
)
@click.option("--batch", "batches", multiple=True, type=int, default=(1, 2, 4, 8, 16, 32), show_default=True)
@click.option(
    "--rounds", default=3, show_default=True, help="In each, every row is measured once; the median is reported."
)
@click.option("--mask", "masks", multiple=True, default=("above=0.5", "never"), show_default=True)
@click.option("--tiles", "tile_counts", multiple=True, type=int, help="Also images of so many tiles, e.g. 1, 4, 13.")
@click.option("--compile", "compiled", is_flag=True, help="Measure all but single images once more, compiled.")
@click.option("--reference/--no-reference", default=True, show_default=True)
@click.option("--within", type=float, default=float("inf"), help="Seconds after which no further row is begun.")
@click.option(
    "--log", type=click.Path(path_type=Path), help="Append each row, as soon as it is known, as a line of JSON."
)
def command(
    weights: Path | None,
    preset: str | None,
    device: str,
    dtype: str,
    images: int,
    reference_images: int | None,
    batches: tuple[int, ...],
    rounds: int,
    masks: tuple[str, ...],
    tile_counts: tuple[int, ...],
    compiled: bool,
    reference: bool,
    within: float,
    log: Path | None,
) -> None:
    """Images a second: batch sizes, mask modes, and the straightforward implementation beside them."""
    until = time.perf_counter() + within
    place = choose_device(device)
    kind = choose_dtype(dtype, place)
    model = load(weights, preset, place, kind, InferenceSettings())
    pictures = make_pictures(images)
    tasks: list[Task] = []
    if reference:
        some = make_pictures(reference_images or images)
        tasks += straightforward_tasks(model, weights, preset, some)
    tasks += [batch_task(model, pictures, batch) for batch in batches]
    for mode in masks:
        name, task = batch_task(model.with_settings(mask_mode=MaskMode.parse(mode)), pictures, 8)
        tasks.append((f"{name}, masks {mode}", task))
    tasks += [tile_task(model, tiles, max(batches)) for tiles in tile_counts]
    if compiled:
        tasks += compiled_tasks(model, pictures, batches, tile_counts)
    report(model, take_turns(tasks, rounds, until, log))


def straightforward_tasks(
    model: DeFakerOne, weights: Path | None, preset: str | None, pictures: list[Image.Image]
) -> list[Task]:
    """Measure the reference's way: on a CPU in float32, as one loads a model without thinking, and in our type.

    Random weights never end their answer, so it ends for them after as many tokens as a trained answer has. The last
    row stops at the first answer token, which the reference does not do: what a hurried user might.
    """
    kinds = {model.dtype: model}
    if model.device.type == "cpu" and model.dtype != torch.float32:
        plain = load(weights, preset, model.device, torch.float32, InferenceSettings())
        kinds = {torch.float32: plain, **kinds}
    tokens = ANSWER_TOKENS if preset is None else TRAINED_ANSWER_TOKENS
    ways = {f"straightforward, {_name(kind)}": (loaded, tokens) for kind, loaded in kinds.items()}
    ways[f"one answer token, {_name(model.dtype)}"] = (model, 1)

    def task(made: Callable[[], Straightforward], first: bool) -> Row:
        return measure(partial(_one_by_one, made(), pictures), len(pictures), first)

    # Made in its first round and kept: what it has learned of its shapes by then is its own in the next one.
    return [(name, partial(task, cache(partial(Straightforward, *way)))) for name, way in ways.items()]


def batch_task(model: DeFakerOne, pictures: list[Image.Image], batch: int, how: str = "") -> Task:
    """Measure everything that `detect` does, in batches of one size."""
    runs = max(len(pictures), batch)
    many = (pictures * (runs // len(pictures) + 1))[:runs]
    return f"{how}batch {batch}", partial(measure, _in_batches(model, many, batch), runs)


def compiled_tasks(
    model: DeFakerOne, pictures: list[Image.Image], batches: Sequence[int], tile_counts: Sequence[int]
) -> list[Task]:
    """Measure the same compiled, what says most first. Warming up compiles; `seconds_in_all` shows for how long."""
    other = model.with_settings(compile=True)
    many = sorted((batch for batch in batches if batch > 1), reverse=True)
    alone = [tile_task(other, tiles, max(batches), "compiled, ") for tiles in sorted(tile_counts, reverse=True)]
    return [*alone[:1], *(batch_task(other, pictures, batch, "compiled, ") for batch in many), *alone[1:]]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def tile_task(model: DeFakerOne, tiles: int, batch: int, how: str = "") -> Task:
    """Measure the network alone on images of one tile count."""
    return f"{how}batch {batch}, {tiles} tiles, network alone", partial(tile_row, model, tiles, batch)


def tile_row(model: DeFakerOne, tiles: int, batch: int, first: bool) -> Row:
    """Measure images of random pixels (blank ones run faster); the first time also what they are compared with."""
    prepared = [_random(blank(model.config, tiles))] * batch
    row = measure(lambda: model.infer(prepared), batch, first)
    if not first:
        return row
    operations, rate = count_operations(model, prepared[0]), matrix_rate(model)
    return {**row, "tflop_per_image": operations / 1e12, "matrix_tflops": rate / 1e12}


def _random(prepared: Prepared) -> Prepared:
    tiles, square = (torch.randint_like(part, 256) for part in (prepared.tiles_u8, prepared.sam_u8))
    return replace(prepared, tiles_u8=tiles, sam_u8=square)


def count_operations(model: DeFakerOne, prepared: Prepared) -> int:
    """Count what the network needs for one image. Of causal attention half the products count: no more are needed.

    On a CPU gradients are wanted, so that nothing is fused; a GPU fuses nothing, and could not hold them. Attention
    runs in plain products: of fused kernels the counter knows some, and not with fewer key than query heads.
    """
    pixels, square, _ = prepared
    ids = torch.tensor([model.prompt.ids(len(pixels))])
    nowhere = torch.zeros_like(ids, dtype=torch.bool)
    inputs = [part.to(model.device) for part in (pixels, ids, square)]
    gradients, plain = torch.set_grad_enabled(model.device.type == "cpu"), sdpa_kernel(SDPBackend.MATH)
    with gradients, plain, FlopCounterMode(display=False) as counter:
        model.network(*inputs, logit_positions=nowhere.to(model.device))
    language, length = model.config.language, ids.shape[1]
    hidden = 2 * language.num_hidden_layers * language.num_attention_heads * language.head_dim * length * (length - 1)
    return int(counter.get_total_flops()) - hidden


def matrix_rate(model: DeFakerOne) -> float:
    """Return the operations a second of a large matrix product in the model's type, the best of five."""
    side = 8192 if model.device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=model.device, dtype=model.dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        a @ b
        _wait()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def load(
    weights: Path | None, preset: str | None, device: torch.device, dtype: torch.dtype, settings: InferenceSettings
) -> DeFakerOne:
    """Load a checkpoint, or draw random weights of a preset's size with the fixture's small vocabulary."""
    if preset is None:
        return DeFakerOne.from_pretrained(weights or default_weights(), device, dtype, settings)
    tokenizer = Tokenizer.from_directory(FIXTURE / "checkpoint")
    network = build_on_meta(PRESETS[preset], tokenizer)
    with device:
        fill(network, {name: _draw(name, tensor.shape, dtype) for name, tensor in network.state_dict().items()})
    metadata = Metadata(name=f"random {preset}", prompt=PromptConfig(suffix="Yes, it is edited. [SEG]"))
    return DeFakerOne(network.cast(device, dtype).eval(), tokenizer, metadata, "random", settings)


def _draw(name: str, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """Draw a weight in its final type: 2.4 billion float32 numbers would not fit beside it. Norms start at one."""
    if "gaussian" in name:
        return torch.randn(shape)
    if name.endswith("weight") and len(shape) == 1:
        return torch.ones(shape, dtype=dtype)
    return torch.empty(shape, dtype=dtype).normal_(std=0.02)


def make_pictures(count: int) -> list[Image.Image]:
    """Return images of unlike sizes, resized from the fixture's two photographs."""
    with Image.open(FIXTURE / "landscape.png") as a, Image.open(FIXTURE / "portrait.png") as b:
        photos = [a.convert("RGB"), b.convert("RGB")]
    return [photos[n % 2].resize(SIZES[n % len(SIZES)]) for n in range(count)]


def measure(run: Callable[[], object], images: int, first: bool) -> Row:
    """Take the wall and processor time of one run, the first time after one to warm up."""
    if first:
        run()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    _wait()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"images": images, "images_per_s": images / wall, "cpu_s_per_image": cpu / images}


def report(model: DeFakerOne, rows: Sequence[Row]) -> None:
    """Print the table and keep the numbers. `ratio`: to the straightforward way, in the faster of two types."""
    measured = [row for row in rows if "error" not in row]
    compare(rows, "straightforward")
    for row in measured:
        if "matrix_tflops" in row:
            row["share_of_matrix_rate"] = row["tflop_per_image"] * row["images_per_s"] / row["matrix_tflops"]
    parameters = sum(p.numel() for p in model.network.parameters())
    title = f"{model.versions['model']} ({parameters / 1e6:.1f}M, {model.device}, {_name(model.dtype)})"
    lines = [_line(row) for row in measured]
    lines += [[f"{row['name']}: {row['error'][:60]}", "failed", "", "", ""] for row in rows if "error" in row]
    columns = ["", "images/s", "CPU s/image", "ratio", "of rounds", "share of matrix rate"]
    shown = columns if any("matrix_tflops" in row for row in measured) else columns[:-1]
    show(title, shown, [line[: len(shown)] for line in lines])
    memory = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    save(
        "detector",
        {
            "model": {**model.versions, "parameters": parameters},
            "device": str(model.device),
            "dtype": _name(model.dtype),
            "rows": list(rows),
            "peak_resident_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "peak_gpu_mb": None if memory is None else memory / 2**20,
        },
    )


def _line(row: Row) -> list[str]:
    ratios = row["ratios"]
    return [
        row["name"],
        f"{row['images_per_s']:.2f}",
        f"{row['cpu_s_per_image']:.3f}",
        f"{row['ratio']:.2f}" if ratios else "",
        f"{min(ratios):.2f}-{max(ratios):.2f}" if ratios else "",
        "{share_of_matrix_rate:.2f} of {matrix_tflops:.3g} TFLOP/s".format(**row) if "matrix_tflops" in row else "",
    ]


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _one_by_one(straight: Straightforward, pictures: list[Image.Image]) -> object:
    return [straight.detect(picture) for picture in pictures]


def _in_batches(model: DeFakerOne, pictures: list[Image.Image], size: int) -> Callable[[], object]:
    return lambda: [model.detect(pictures[at : at + size]) for at in range(0, len(pictures), size)]
