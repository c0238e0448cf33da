"""`assay evaluate` as a user meets it, and the library under it."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from jsonschema import validate
from PIL import Image

from screening.cli import main
from worker.defakerone import DeFakerOne
from worker.defakerone.evaluation.baselines import Baseline
from worker.defakerone.evaluation.cache import MeasurementCache
from worker.defakerone.evaluation.evaluate import measure_with
from worker.defakerone.evaluation.perturbations import all_perturbations
from worker.defakerone.evaluation.predictors import Prediction, Predictor
from worker.defakerone.evaluation.runner import Runner
from worker.defakerone.evaluation.summary import Inputs
from worker.defakerone.manifest import Entry, MissingFileError, read_manifest
from worker.defakerone.samples import load_sample

CHECKPOINT = Path(__file__).parents[2] / "fixtures" / "defakerone" / "checkpoint"

# id, label, domain, operation, data set, group; every fake of `nature` has a mask
IMAGES = [
    ("n1", "fake", "nature", "splice", "A", "s1"),
    ("n2", "real", "nature", "none", "A", "s1"),
    ("n3", "fake", "nature", "copy-move", "A", "s2"),
    ("n4", "real", "nature", "none", "A", "s2"),
    ("n5", "fake", "nature", "splice", "B", None),
    ("n6", "real", "nature", "none", "B", None),
    ("g1", "fake", "aigc", "fully-generated", "C", None),
    ("g2", "real", "aigc", "none", "C", None),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of eight small pictures, one of them turned by EXIF."""
    random = np.random.default_rng(11)
    root = tmp_path / "set"
    root.mkdir()
    rows = []
    for number, (name, label, domain, operation, data_set, group) in enumerate(IMAGES):
        pixels = random.integers(0, 256, (40 + number, 56, 3), np.uint8)
        image = Image.fromarray(pixels)
        image.getexif()[0x0112] = 6 if name == "n3" else 1
        image.save(root / f"{name}.png", exif=image.getexif())
        row: dict[str, Any] = {
            "id": name,
            "image": f"{name}.png",
            "label": label,
            "domain": domain,
            "operation": operation,
        }
        row |= {"dataset": data_set, "mask": None, "group": group, "licence": "CC0"}
        row |= {"sha256": hashlib.sha256((root / f"{name}.png").read_bytes()).hexdigest()}
        if label == "fake" and domain == "nature":
            mask = np.zeros(pixels.shape[:2], np.uint8)
            mask[5:15, 8 : 20 + number] = 255
            Image.fromarray(mask).save(root / f"{name}-mask.png")
            row["mask"] = f"{name}-mask.png"
        rows.append({key: value for key, value in row.items() if value is not None or key == "mask"})
    (root / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def measured(folder: Path, *arguments: object) -> dict[str, Any]:
    path = folder.parent / "result.json"
    result = evaluate(folder, "--json", path, *arguments)
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(path.read_text())
    return document


class Seer:
    """A predictor that looks up the truth: heat 0.9 inside the mask and 0.1 outside, score by label."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._truth = {load_sample(entry).image.tobytes(): load_sample(entry) for entry in entries}
        self.judged = 0

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"kind": "baseline", "name": "seer"}

    def predict(self, images: Sequence[Image.Image]) -> list[Prediction]:
        self.judged += len(images)
        return [self._judge(image) for image in images]

    def _judge(self, image: Image.Image) -> Prediction:
        sample = self._truth[image.tobytes()]
        heat = np.full((image.height, image.width), 0.1, np.float32)
        if sample.mask is not None:
            heat[sample.mask > 0] = 0.9
        return Prediction(score=0.8 if sample.entry.is_fake else 0.3, heatmap=heat)


def test_a_predictor_that_knows_the_truth_is_perfect_and_calibration_is_not(folder: Path) -> None:
    entries = read_manifest(folder)
    document = measure_with(Seer(entries), entries, Inputs(folder, {"kind": "baseline", "name": "seer"}, seed=0))
    metrics = {name: estimate["value"] for name, estimate in document["overall"]["metrics"].items()}
    for name in ("image_auc", "image_auc_pooled", "accuracy", "image_f1", "pixel_f1", "pixel_iou", "pixel_auc"):
        assert metrics[name] == 1.0, name
    assert metrics["false_area"] == 0.0
    assert metrics["ece"] == pytest.approx(0.25)
    assert 0 < metrics["pixel_f1_all_ones"] < 0.3
    assert document["overall"]["best_pixel_threshold"] == pytest.approx(26 / 256)


def test_every_part_counts_the_images_that_belong_to_it(folder: Path) -> None:
    document = measured(folder, "--baseline", "all-ones")
    counts = {
        name: (part["fakes"], part["authentic"], part["masks"], part["scenes"])
        for key in ("data_sets", "domains", "operations")
        for name, part in document[key].items()
    }
    assert counts == {
        "A": (2, 2, 2, 2), "B": (1, 1, 1, 2), "C": (1, 1, 0, 2),
        "nature": (3, 3, 3, 4), "aigc": (1, 1, 0, 2),
        "splice": (2, 3, 2, 4), "copy-move": (1, 2, 1, 2), "fully-generated": (1, 1, 0, 2),
    }  # fmt: skip
    assert [image["id"] for image in document["images"]] == sorted(row[0] for row in IMAGES)
    assert document["overall"]["metrics"]["pixel_f1"] == document["overall"]["metrics"]["pixel_f1_all_ones"]


def test_domain_means_average_data_sets_first_and_then_domains(folder: Path) -> None:
    document = measured(folder, "--baseline", "ela")
    of = {name: part["metrics"] for name, part in document["data_sets"].items()}
    means = document["domain_means"]
    nature = (of["A"]["accuracy"]["value"] + of["B"]["accuracy"]["value"]) / 2
    assert means["nature"]["accuracy"]["value"] == pytest.approx(nature, abs=1e-8)
    assert means["overall"]["accuracy"]["value"] == pytest.approx((nature + of["C"]["accuracy"]["value"]) / 2, abs=1e-8)
    assert means["aigc"]["pixel_f1"]["value"] is None
    assert means["overall"]["pixel_f1"]["value"] == means["nature"]["pixel_f1"]["value"]


def test_the_document_keeps_its_published_schema_and_is_the_same_twice(folder: Path) -> None:
    first = measured(folder, "--baseline", "ela", "--suite", "noise", "--suite", "jpeg")
    text = (folder.parent / "result.json").read_bytes()
    schema = json.loads(files("worker.defakerone.evaluation").joinpath("schema.json").read_text())
    validate(first, schema)
    measured(folder, "--baseline", "ela", "--suite", "noise", "--suite", "jpeg")
    assert (folder.parent / "result.json").read_bytes() == text
    assert str(folder.parent) not in text.decode()


def test_the_model_is_measured_by_its_own_scores_and_heat_maps(folder: Path, model: DeFakerOne) -> None:
    out = folder.parent / "out"
    arguments = ("--weights", CHECKPOINT, "--out", out, "--device", "cpu", "--dtype", "float32")
    document = measured(folder, *arguments)
    assert measured(folder, *arguments) == document
    entries = {entry.id: entry for entry in read_manifest(folder)}
    for image in document["images"]:
        sample = load_sample(entries[image["id"]])
        (found,) = model.detect([sample.image])
        assert image["score"] == pytest.approx(found.score, abs=1e-5)
        assert (image["height"], image["width"]) == found.heatmap.shape
        with Image.open(out / f"{image['id']}.heatmap.png") as heat:
            assert heat.mode == "L"
            assert np.abs(np.asarray(heat, np.float32) / 255 - found.heatmap).max() <= 0.5 / 255 + 1e-4
    assert document["predictor"]["weights_sha256"] == model.weights_sha256


def test_heat_maps_lie_upright_beside_the_turned_image(folder: Path) -> None:
    measured(folder, "--baseline", "all-ones", "--out", folder.parent / "out")
    with Image.open(folder.parent / "out" / "n3.heatmap.png") as heat, Image.open(folder / "n3.png") as stored:
        assert heat.size == stored.size[::-1]
        assert np.asarray(heat).min() == 255


def test_the_identity_control_gives_the_unperturbed_figures_and_levels_are_five_a_suite(folder: Path) -> None:
    document = measured(folder, "--baseline", "ela", "--perturb", "--draws", 20)
    perturbed = document["perturbations"]
    assert perturbed["identity"] == document["overall"]
    assert {suite: len(found["levels"]) for suite, found in perturbed["suites"].items()} == dict.fromkeys(
        ("blur", "brightness", "contrast", "jpeg", "noise", "resize", "saturation"), 5
    )
    blur = perturbed["suites"]["blur"]
    values = [level["metrics"]["pixel_auc"]["value"] for level in blur["levels"]]
    assert blur["mean"]["pixel_auc"] == pytest.approx(sum(values) / 5, abs=1e-8)
    assert any(level["metrics"]["ece"] != document["overall"]["metrics"]["ece"] for level in blur["levels"])


def test_half_size_is_judged_and_compared_at_half_size(folder: Path) -> None:
    """Rows 5 to 15 become 2.5 to 7.5: six half-size rows that are covered by half at least."""
    document = measured(folder, "--baseline", "all-ones", "--suite", "halve")
    (level,) = document["perturbations"]["suites"]["halve"]["levels"]
    shares = [6 * 6 / (20 * 28), 6 * 7 / (21 * 28), 6 * 8 / (22 * 28)]
    expected = sum(2 * share / (1 + share) for share in shares) / 3
    assert level["metrics"]["pixel_f1"]["value"] == pytest.approx(expected, abs=1e-8)


def test_a_second_run_takes_everything_from_the_cache_and_says_the_same(folder: Path) -> None:
    entries = read_manifest(folder)
    seer = Seer(entries)
    inputs = Inputs(folder, seer.identity, seed=0)

    def run(cached_for: Predictor) -> Any:
        cache = MeasurementCache(folder.parent / "cache", cached_for.identity, seed=0)
        return sorted((o.result for o in Runner(seer, cache=cache).run(entries)), key=lambda r: r.entry.id)

    first, judged = run(seer), seer.judged
    again = run(seer)
    assert (judged, seer.judged) == (8, 8)
    assert [r.measured.to_json() for r in again] == [r.measured.to_json() for r in first]
    run(Baseline("ela"))
    assert seer.judged == 16, "another predictor's measurements must not be found"
    assert inputs.draws == 1000


def test_a_changed_mask_or_a_damaged_cache_file_is_measured_anew(folder: Path) -> None:
    cache = folder.parent / "cache"
    first = measured(folder, "--baseline", "ela", "--cache", cache)
    kept = sorted(cache.rglob("*.json"))
    assert len(kept) == 8
    for path in kept:
        path.write_text(path.read_text()[:-20])
    assert measured(folder, "--baseline", "ela", "--cache", cache) == first
    mask = np.asarray(Image.open(folder / "n1-mask.png")).copy()
    mask[30:, 40:] = 255
    Image.fromarray(mask).save(folder / "n1-mask.png")
    changed = measured(folder, "--baseline", "ela", "--cache", cache)
    assert len(list(cache.rglob("*.json"))) == 9
    assert changed["images"][2]["id"] == "n1"
    assert changed["images"][2]["pixel_auc"] != first["images"][2]["pixel_auc"]


def test_an_interrupted_run_resumes_from_its_cache_with_the_same_figures(folder: Path) -> None:
    """The fifth image is missing at first: what was measured before it is kept."""
    cache = folder.parent / "cache"
    whole = measured(folder, "--baseline", "ela")
    (folder / "n5.png").rename(folder.parent / "n5.png")
    entries = read_manifest(folder)
    kept = MeasurementCache(cache, Baseline("ela").identity, seed=0)
    with pytest.raises(MissingFileError, match=r"n5\.png"):
        list(Runner(Baseline("ela"), cache=kept, batch=1).run(entries))
    assert 2 <= len(list(cache.rglob("*.json"))) <= 4
    (folder.parent / "n5.png").rename(folder / "n5.png")
    assert measured(folder, "--baseline", "ela", "--cache", cache) == whole


def test_batches_change_no_result(folder: Path) -> None:
    assert measured(folder, "--baseline", "ela", "--batch-size", 1) == measured(folder, "--baseline", "ela")


def test_results_do_not_depend_on_the_order_of_the_manifest(folder: Path) -> None:
    first = measured(folder, "--baseline", "ela", "--suite", "noise")
    lines = (folder / "manifest.jsonl").read_text().splitlines(keepends=True)
    (folder / "manifest.jsonl").write_text("".join(reversed(lines)))
    second = measured(folder, "--baseline", "ela", "--suite", "noise")
    assert first["manifest"].pop("sha256") != second["manifest"].pop("sha256")
    assert first == second


def test_a_limit_takes_the_first_images_and_says_so(folder: Path) -> None:
    document = measured(folder, "--baseline", "all-ones", "--limit", 2)
    assert [image["id"] for image in document["images"]] == ["n1", "n2"]
    assert document["manifest"]["limit"] == 2


def test_the_report_is_one_file_with_figures_curves_cases_and_other_runs(folder: Path) -> None:
    measured(folder, "--baseline", "all-ones")
    other = folder.parent / "other.json"
    (folder.parent / "result.json").rename(other)
    page = folder.parent / "report.html"
    result = evaluate(folder, "--baseline", "ela", "--report", page, "--compare", other, "--suite", "jpeg")
    assert result.exit_code == 0, result.output
    assert "all-ones" in result.output
    html = page.read_text()
    for needed in (
        "Image AUC, pooled",
        "false-positive rate",
        "Found best",
        "Missed",
        "False alarms",
        "all-ones",
        "n1",
    ):
        assert needed in html, needed
    assert html.count("data:image/jpeg;base64,") >= 8
    assert 'src="http' not in html
    assert "$" not in html.replace("$schema", "")


def test_what_a_manifest_says_cannot_break_out_of_the_report(folder: Path) -> None:
    text = (folder / "manifest.jsonl").read_text().replace('"splice"', '"<script>alert(1)</script>"')
    (folder / "manifest.jsonl").write_text(text)
    page = folder.parent / "report.html"
    assert evaluate(folder, "--baseline", "ela", "--report", page).exit_code == 0
    assert "<script>" not in page.read_text()


def break_manifest(folder: Path) -> str:
    (folder / "manifest.jsonl").write_text('{"id": "a"}\n')
    return "manifest.jsonl: line 1: lacks image, label, domain"


def remove_mask(folder: Path) -> str:
    (folder / "n3-mask.png").unlink()
    return "n3-mask.png"


def shrink_mask(folder: Path) -> str:
    Image.fromarray(np.full((3, 3), 255, np.uint8)).save(folder / "n3-mask.png")
    return "n3-mask.png: has 3 x 3 pixels, its image stores 56 x 42"


def corrupt_image(folder: Path) -> str:
    whole = (folder / "n6.png").read_bytes()
    (folder / "n6.png").write_bytes(whole[: len(whole) // 2])
    text = (folder / "manifest.jsonl").read_text().replace(hashlib.sha256(whole).hexdigest(), "0" * 64)
    (folder / "manifest.jsonl").write_text(text.replace('"' + "0" * 64 + '"', "null"))
    return "n6.png"


def swap_image(folder: Path) -> str:
    (folder / "n6.png").write_bytes((folder / "n4.png").read_bytes())
    return "n6.png"


def remove_manifest(folder: Path) -> str:
    (folder / "manifest.jsonl").unlink()
    return "manifest.jsonl: there is no such manifest"


@pytest.mark.parametrize(
    "damage", [break_manifest, remove_mask, shrink_mask, corrupt_image, swap_image, remove_manifest]
)
def test_a_wrong_input_ends_with_status_1_names_the_file_and_leaves_no_result(folder: Path, damage: Any) -> None:
    says = damage(folder)
    path = folder.parent / "result.json"
    path.write_text("before")
    result = evaluate(folder, "--baseline", "ela", "--json", path, "--report", folder.parent / "r.html")
    assert result.exit_code == 1
    assert says in result.output
    assert "Traceback" not in result.output
    assert path.read_text() == "before"
    assert {p.name for p in folder.parent.iterdir()} == {"set", "result.json"}


@pytest.mark.parametrize("option", ["--json", "--report", "--out", "--cache"])
def test_a_disk_that_takes_no_more_ends_with_status_1_and_nothing_half_written(folder: Path, option: str) -> None:
    """The kernel refuses to let any file grow past one kilobyte, as a full disk would."""
    target = folder.parent / "target"
    code = (
        "import resource, sys; from screening.cli import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); main(sys.argv[1:])"
    )
    arguments = ["evaluate", str(folder), "--baseline", "ela", option, str(target)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "cannot write" in done.stderr
    assert "target" in done.stderr
    assert "Traceback" not in done.stderr
    left = [path for path in folder.parent.rglob("*") if path.is_file() and "set" not in path.parts[-2:]]
    assert left == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--baseline", "magic"], "choose one of ela"),
        (["--baseline", "ela", "--weights", "w"], "leave --weights out"),
        (["--baseline", "ela", "--suite", "sepia"], "choose among blur"),
        (["--baseline", "ela", "--limit", "0"], "0 is not in the range"),
    ],
)
def test_wrong_use_ends_with_status_2_and_says_what_to_do(folder: Path, arguments: list[str], says: str) -> None:
    result = evaluate(folder, *arguments)
    assert result.exit_code == 2
    assert says in result.output


def test_a_file_that_is_no_evaluation_cannot_be_compared_with(folder: Path) -> None:
    for content in ("[]", "{", '{"schema": "assay.evaluation/0"}'):
        (folder.parent / "x.json").write_text(content)
        result = evaluate(folder, "--baseline", "ela", "--compare", folder.parent / "x.json")
        assert result.exit_code == 1
        assert "x.json: is no result of `assay evaluate --json`" in result.output


def test_a_heat_map_of_the_wrong_size_is_an_error_and_not_a_figure(folder: Path) -> None:
    class Careless(Seer):
        def _judge(self, image: Image.Image) -> Prediction:
            return Prediction(score=0.5, heatmap=np.zeros((3, 3), np.float32))

    entries = read_manifest(folder)
    with pytest.raises(ValueError, match="shape"):
        list(Runner(Careless(entries)).run(entries))


def test_the_runner_holds_no_more_than_a_batch_of_images(folder: Path) -> None:
    entries = read_manifest(folder)

    class Counting(Seer):
        def predict(self, images: Sequence[Image.Image]) -> list[Prediction]:
            assert len(images) <= 3
            return [Prediction(0.5, np.zeros((i.height, i.width), np.float32)) for i in images]

    runner = Runner(Counting(entries), changes=(None, *all_perturbations(("blur", "jpeg"))), batch=3)
    outcomes = list(runner.run(entries))
    assert len(outcomes) == 8 * 12
    assert {o.change for o in outcomes} == {None, *all_perturbations(("blur", "jpeg"))}
