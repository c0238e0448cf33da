"""How many images a second does the detector screen, against the straightforward implementation of the same model?"""

import resource
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.bench.results import save, show
from tests.bench.straightforward import Straightforward
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
# Pictures as platforms get them, width x height: portraits, landscapes, squares, documents, thumbnails.
SIZES = [(1600, 1200), (1200, 1600), (1080, 1080), (1920, 1080), (1240, 1754), (640, 480), (750, 1334), (400, 300)]


@click.command()
@click.option("--weights", type=click.Path(path_type=Path), help="Checkpoint folder; default: the bundled one.")
@click.option("--preset", type=click.Choice(list(PRESETS)), help="Random weights of this size instead of a checkpoint.")
@click.option("--device", default="auto", show_default=True)
@click.option("--dtype", default="auto", show_default=True, type=click.Choice(DTYPES))
@click.option("--images", default=16, show_default=True, help="Images a measurement; unlike sizes.")
@click.option("--batch", "batches", multiple=True, type=int, default=(1, 2, 4, 8, 16, 32), show_default=True)
@click.option("--rounds", default=3, show_default=True, help="The median of so many is reported.")
@click.option("--mask", "masks", multiple=True, default=("above=0.5", "never"), show_default=True)
@click.option("--tiles", "tile_counts", multiple=True, type=int, help="Also images of so many tiles, e.g. 1, 4, 13.")
@click.option("--compile", "compiled", is_flag=True, help="torch.compile with CUDA graphs.")
@click.option("--reference/--no-reference", default=True, show_default=True)
def command(
    weights: Path | None,
    preset: str | None,
    device: str,
    dtype: str,
    images: int,
    batches: tuple[int, ...],
    rounds: int,
    masks: tuple[str, ...],
    tile_counts: tuple[int, ...],
    compiled: bool,
    reference: bool,
) -> None:
    """Images a second: batch sizes, mask modes, and the straightforward implementation beside them."""
    place = choose_device(device)
    kind = choose_dtype(dtype, place)
    model = load(weights, preset, place, kind, InferenceSettings(compile=compiled))
    pictures = make_pictures(images)
    rows: list[dict[str, Any]] = []
    if reference:
        rows += straightforward_rows(model, weights, preset, pictures, rounds)
    for batch in batches:
        runs = max(images, batch)
        many = (pictures * (runs // images + 1))[:runs]
        rows.append(measure(f"batch {batch}", _in_batches(model, many, batch), runs, rounds))
    for mode in masks:
        other = model.with_settings(mask_mode=MaskMode.parse(mode))
        rows.append(measure(f"batch 8, masks {mode}", _in_batches(other, pictures, 8), images, rounds))
    rows += [tile_row(model, tiles, max(batches), rounds) for tiles in tile_counts]
    report(model, rows)


def straightforward_rows(
    model: DeFakerOne, weights: Path | None, preset: str | None, pictures: list[Image.Image], rounds: int
) -> list[dict[str, Any]]:
    """Measure the reference's way: on a CPU in float32, as one loads a model without thinking, and in our type.

    The last row stops at the first answer token, which the reference does not do: what a hurried user might.
    """
    kinds = {model.dtype: model}
    if model.device.type == "cpu" and model.dtype != torch.float32:
        plain = load(weights, preset, model.device, torch.float32, InferenceSettings())
        kinds = {torch.float32: plain, **kinds}
    ways = {f"straightforward, {_name(kind)}": Straightforward(loaded) for kind, loaded in kinds.items()}
    ways[f"one answer token, {_name(model.dtype)}"] = Straightforward(model, answer_tokens=1)
    return [measure(name, partial(_one_by_one, way, pictures), len(pictures), rounds) for name, way in ways.items()]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def tile_row(model: DeFakerOne, tiles: int, batch: int, rounds: int) -> dict[str, Any]:
    """Measure the network alone on images of one tile count, against the rate of a plain matrix product."""
    prepared = [blank(model.config, tiles)] * batch
    row = measure(f"batch {batch}, {tiles} tiles, network alone", lambda: model.infer(prepared), batch, rounds)
    operations = count_operations(model, prepared[0])
    rate = matrix_rate(model)
    share = operations * row["images_per_s"] / rate
    return {**row, "tflop_per_image": operations / 1e12, "matrix_tflops": rate / 1e12, "share_of_matrix_rate": share}


def count_operations(model: DeFakerOne, prepared: Prepared) -> int:
    """Count what the network needs for one image: with gradients wanted, nothing is fused, and all is counted.

    Of attention's kernels the counter knows the GPU's and plain products, not the CPU's fused one.
    """
    pixels, square, _ = prepared
    ids = torch.tensor([model.prompt.ids(len(pixels))])
    nowhere = torch.zeros_like(ids, dtype=torch.bool)
    plain = sdpa_kernel(SDPBackend.MATH) if model.device.type == "cpu" else nullcontext()
    with plain, FlopCounterMode(display=False) as counter:
        model.network(
            *(part.to(model.device) for part in (pixels, ids, square)), logit_positions=nowhere.to(model.device)
        )
    return int(counter.get_total_flops())


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


def measure(name: str, run: Callable[[], object], images: int, rounds: int) -> dict[str, Any]:
    """Run once to warm up, then take the median wall and processor time of the rounds."""
    run()
    walls, cpus = [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        _wait()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    median = rounds // 2
    wall, cpu = sorted(walls)[median], sorted(cpus)[median]
    click.echo(f"{name}: {images / wall:.2f} images/s", err=True)
    return {"name": name, "images": images, "images_per_s": images / wall, "cpu_s_per_image": cpu / images}


def report(model: DeFakerOne, rows: Sequence[dict[str, Any]]) -> None:
    """Print the table and keep the numbers. `ratio`: to the straightforward way, in the type that suits it better."""
    speeds = [row["images_per_s"] for row in rows if row["name"].startswith("straightforward")]
    base = max(speeds, default=None)  # in whichever type it is faster
    for row in rows:
        row["ratio"] = None if base is None else row["images_per_s"] / base
    parameters = sum(p.numel() for p in model.network.parameters())
    title = f"{model.versions['model']} ({parameters / 1e6:.1f}M, {model.device}, {_name(model.dtype)})"
    lines = [
        [
            row["name"],
            f"{row['images_per_s']:.2f}",
            f"{row['cpu_s_per_image']:.3f}",
            "" if row["ratio"] is None else f"{row['ratio']:.2f}",
            f"{row['share_of_matrix_rate']:.2f}" if "share_of_matrix_rate" in row else "",
        ]
        for row in rows
    ]
    show(title, ["", "images/s", "CPU s/image", "ratio", "share of matrix rate"], lines)
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


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _one_by_one(straight: Straightforward, pictures: list[Image.Image]) -> object:
    return [straight.detect(picture) for picture in pictures]


def _in_batches(model: DeFakerOne, pictures: list[Image.Image], size: int) -> Callable[[], object]:
    return lambda: [model.detect(pictures[at : at + size]) for at in range(0, len(pictures), size)]
