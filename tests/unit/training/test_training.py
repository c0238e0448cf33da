"""Training: it learns, it resumes along the same curve, and it refuses bad data by name."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from worker.defakerone.config import DEFAKERONE_TINY
from worker.defakerone.detector import DeFakerOne
from worker.defakerone.manifest import CorruptImageError, MaskMismatchError, MissingFileError, read_manifest
from worker.defakerone.training import gpu
from worker.defakerone.training import trainer as trainer_module
from worker.defakerone.training.lora import add_adapters, merge_adapters
from worker.defakerone.training.objective import Objective
from worker.defakerone.training.optimisation import MasterWeights, choose_parameters, rate_at
from worker.defakerone.training.progress import read_events
from worker.defakerone.training.settings import Run, SettingsError, Stage, bundled_runs, choose_stages, read_run
from worker.defakerone.training.state import TrainingError, write_whole
from worker.defakerone.training.templates import load_templates
from worker.defakerone.training.trainer import Trainer

TOKENIZER = Path(__file__).parents[2] / "fixtures" / "defakerone" / "checkpoint"
SEED = 7


def _run(manifest: Path, **changes: object) -> Run:
    return replace(read_run("tiny", {"manifest": str(manifest), "tokenizer": str(TOKENIZER), "seed": SEED}), **changes)  # type: ignore[arg-type]


def test_the_tiny_configuration_overfits_eight_pictures(manifest: Path, tmp_path: Path) -> None:
    print(f"seed {SEED}")
    folder = Trainer(_run(manifest), tmp_path / "run").train()
    scores = [event["scores"] for event in read_events(tmp_path / "run" / "log.jsonl") if "scores" in event]
    assert scores[-1]["image_auc"] == 1.0
    assert scores[-1]["pixel_f1"] > 0.8
    assert (tmp_path / "run" / "curves.png").stat().st_size > 5000
    model = DeFakerOne.from_pretrained(folder)
    assert model.metadata.name == "defakerone-tiny"
    assert not any("base" in name for name, _ in model.network.named_parameters())


def test_momenta_are_kept_in_the_models_own_order_so_that_another_process_finds_them(manifest: Path) -> None:
    stage = replace(_run(manifest).stages[0], optimizer="muon")
    network = DeFakerOne.from_config(DEFAKERONE_TINY, TOKENIZER, seed=SEED).network
    objective = Objective(network, stage, tuple(range(8)))
    weights = MasterWeights(choose_parameters(objective, stage), stage, torch.float32, 0.99)
    order = {id(master): number for number, master in enumerate(weights.masters.values())}
    assert len(weights.optimizers) == 2
    for optimizer in weights.optimizers:
        for group in optimizer.param_groups:
            numbers = [order[id(parameter)] for parameter in group["params"]]
            assert numbers == sorted(numbers)


def test_a_resumed_run_equals_an_unbroken_one(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    print(f"seed {SEED}")
    monkeypatch.setattr(trainer_module, "LOG_EVERY", 1)
    base = _run(manifest)
    stages = tuple(replace(stage, steps=4, validate_every=2, lora_dropout=0.1) for stage in base.stages)
    stages = (replace(stages[0], optimizer="muon"), *stages[1:])
    run = replace(base, stages=stages)
    Trainer(run, tmp_path / "whole").train()

    class Killed(BaseException):
        pass

    for stop in (3, 6, 10):  # inside each of the three stages
        broken = Trainer(run, tmp_path / "broken")
        seen = 0
        step = broken._refuse_nan

        def count(result: object, stop: int = stop, step: object = step) -> None:
            nonlocal seen
            seen += 1
            if seen > stop - _done(tmp_path / "broken"):
                raise Killed
            step(result)  # type: ignore[operator]

        broken._refuse_nan = count  # type: ignore[method-assign]
        with pytest.raises(Killed):
            broken.train()
    Trainer(run, tmp_path / "broken").train()
    one, two = (_terms(tmp_path / name) for name in ("whole", "broken"))
    assert one.keys() == two.keys()
    for key, terms in one.items():
        assert two[key] == pytest.approx(terms, abs=1e-6)
    first, second = (
        (tmp_path / name / "checkpoint" / "model.safetensors").read_bytes() for name in ("whole", "broken")
    )
    assert first == second


def _done(folder: Path) -> int:
    if not (folder / "last.pt").exists():
        return 0
    position = torch.load(folder / "last.pt", weights_only=True)["position"]
    return int(position["stage"] * 4 + position["step"])


def _terms(folder: Path) -> dict[tuple[str, int], dict[str, float]]:
    events = [event for event in read_events(folder / "log.jsonl") if "terms" in event]
    return {(event["stage"], event["step"]): event["terms"] for event in events}


def test_merged_adapters_compute_what_they_computed_apart(manifest: Path, tmp_path: Path) -> None:
    model = DeFakerOne.from_config(DEFAKERONE_TINY, TOKENIZER, seed=1)
    language = model.network.language_model
    inputs = torch.randn(1, 5, model.config.language.hidden_size)
    plain = language(inputs_embeds=inputs).last_hidden_state
    for parameter in add_adapters(language, 4, 16.0, 0.0):
        torch.nn.init.normal_(parameter, std=0.1)
    adapted = language(inputs_embeds=inputs).last_hidden_state
    merge_adapters(language)
    merged = language(inputs_embeds=inputs).last_hidden_state
    assert (adapted - plain).abs().max() > 1e-3
    assert torch.allclose(merged, adapted, atol=1e-5)


def test_a_missing_mask_is_named(manifest: Path, tmp_path: Path) -> None:
    (manifest.parent / "m3.png").unlink()
    with pytest.raises(MissingFileError, match=r"m3\.png"):
        Trainer(_run(manifest), tmp_path / "run").train()


def test_a_mask_of_another_size_is_named(manifest: Path, tmp_path: Path) -> None:
    Image.new("L", (60, 60), 255).save(manifest.parent / "m3.png")
    with pytest.raises(MaskMismatchError, match=r"m3\.png"):
        Trainer(_run(manifest), tmp_path / "run").train()


def test_a_corrupt_image_is_named(manifest: Path, tmp_path: Path) -> None:
    (manifest.parent / "i2.png").write_bytes(b"\x89PNG\r\n\x1a\n but no picture")
    with pytest.raises(CorruptImageError, match=r"i2\.png"):
        Trainer(_run(manifest), tmp_path / "run").train()


def test_a_full_disk_leaves_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "last.pt", {"step": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match="No space left on device"):
        write_whole(tmp_path / "last.pt", {"step": 2})
    assert torch.load(tmp_path / "last.pt", weights_only=True) == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_folder_with_another_run_is_refused(manifest: Path, tmp_path: Path) -> None:
    Trainer(_run(manifest), tmp_path / "run")
    with pytest.raises(TrainingError, match="another run"):
        Trainer(_run(manifest, seed=8), tmp_path / "run")


def test_every_bundled_configuration_can_be_read() -> None:
    assert bundled_runs() == ["2b", "small", "small-gpu", "tiny"]
    for name in bundled_runs():
        run = read_run(name, {"photos": "photos", "manifest": "manifest.jsonl"})
        assert run.stages[-1].branch == "joint"
        assert run.stages[-1].lora_rank > 0
    paper = read_run("2b").stages[-1]
    assert (paper.lora_rank, paper.lora_alpha, paper.language_rate, paper.rate) == (128, 16.0, 1e-6, 1e-5)


def test_an_unknown_key_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('name = "x"\npreset = "defakerone-tiny"\nlerning_rate = 1\n')
    with pytest.raises(SettingsError, match="lerning_rate"):
        read_run(str(path))


def test_the_ten_templates_open_with_all_eight_words() -> None:
    templates = load_templates().templates
    openers = {sentence.split()[0].rstrip(",") for t in templates for sentence in (t.positive, t.negative)}
    assert len(templates) == 10
    assert openers == {"Yes", "Yeah", "True", "Sure", "No", "Not", "Never", "None"}


def test_stages_are_chosen_by_name_and_unknown_ones_refused() -> None:
    run = read_run("small", {"photos": "photos"})
    assert [stage.name for stage in choose_stages(run, "joint, masks").stages] == ["masks", "joint"]
    with pytest.raises(SettingsError, match="no stage tracse"):
        choose_stages(run, "tracse")


def test_packing_keeps_every_camera_before_it_keeps_a_second_photo_of_one(tmp_path: Path) -> None:
    photos, packed = tmp_path / "photos", tmp_path / "packed"
    photos.mkdir()
    rows = []
    for number in range(9):
        _save_noise(photos / f"{number}.jpg", (100, 100 + 8 * number))
        row = {"id": f"p{number}", "image": f"{number}.jpg", "label": "real", "domain": "nature", "split": "train"}
        rows.append({**row, "camera_model": f"camera {number // 3}"})
    (photos / "manifest.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    sizes = [path.stat().st_size for path in photos.glob("*.jpg")]
    room = sum(sizes) / 2
    share = str(room / gpu.SHARES["jpeg"] / 2**20)
    done = CliRunner().invoke(gpu.main, ["pack", str(photos), str(packed), "--mib", share])
    assert done.exit_code == 0, done.output
    assert {entry.extra["camera_model"] for entry in read_manifest(packed)} == {"camera 0", "camera 1", "camera 2"}
    assert max(sizes) < sum(path.stat().st_size for path in packed.glob("*.jpg")) <= room


@pytest.mark.skipif(shutil.which("jpegtran") is None, reason="jpegtran is not installed: cropping was NOT checked")
def test_a_large_photo_is_cropped_without_being_compressed_again(tmp_path: Path) -> None:
    whole, cropped = tmp_path / "whole.jpg", tmp_path / "cropped.jpg"
    _save_noise(whole, (640, 480))
    assert gpu.crop_jpeg(whole, cropped, 100_000)
    with Image.open(whole) as before, Image.open(cropped) as after:
        width, height = after.size
        assert width * height <= 100_000
        corners = [(x, y) for y in range(0, 480, 16) for x in range(0, 640, 16)]
        pixels = np.asarray(after.convert("L"))[16:-16, 16:-16]  # chroma is smoothed across a crop's border
        original = np.asarray(before.convert("L"))
        assert any(
            np.array_equal(pixels, original[y + 16 : y + height - 16, x + 16 : x + width - 16])
            for x, y in corners
            if x + width <= 640 and y + height <= 480
        )


def _save_noise(path: Path, size: tuple[int, int]) -> None:
    width, height = size
    noise = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(noise).save(path, quality=90)


def test_a_stage_that_no_longer_gets_better_ends_early(manifest: Path, tmp_path: Path) -> None:
    base = _run(manifest)
    idle = replace(base.stages[0], rate=0.0, steps=50, validate_every=1, patience=2)
    Trainer(replace(base, stages=(idle,)), tmp_path / "run").train()
    validated = [event["step"] for event in read_events(tmp_path / "run" / "log.jsonl") if "scores" in event]
    assert validated == [1, 2, 3]


def test_a_stage_by_the_clock_also_warms_up_by_the_clock() -> None:
    stage = Stage(name="s", steps=100_000, minutes=10, warmup=0.1)
    assert rate_at(stage, 5, elapsed=0.05) == pytest.approx(0.5)
    assert rate_at(stage, 500, elapsed=0.1) == pytest.approx(1.0, abs=0.05)
    assert rate_at(stage, 900, elapsed=1.0) == pytest.approx(0.02)
    counted = Stage(name="s", steps=100, warmup=0.1)
    assert rate_at(counted, 4) == pytest.approx(0.5)
    assert rate_at(counted, 10) == pytest.approx(1.0)
