"""`assay detect` as a person and a script meet it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from screening.cli import main
from tests.unit.defakerone.conftest import FIXTURE, PHOTOS, photo
from tests.unit.defakerone.test_images import with_orientation
from worker.defakerone import DeFakerOne
from worker.defakerone.files import Screened, Source, find_sources, infer_splitting, screen_files

KEYS = {
    *("path", "score", "probability", "label", "area_fraction"),
    *("mask", "heatmap", "width", "height", "weights"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good images, one of them below a sub-folder, a broken one and a text."""
    inside = tmp_path / "in" / "sub"
    inside.mkdir(parents=True)
    shutil.copyfile(FIXTURE / "landscape.png", tmp_path / "in" / "b.png")
    shutil.copyfile(FIXTURE / "portrait.png", inside / "b.png")
    (tmp_path / "in" / "a.jpg").write_bytes(b"no image")
    (tmp_path / "in" / "notes.txt").write_text("not looked at")
    (tmp_path / "in" / ".hidden.png").write_bytes(b"not looked at")
    return tmp_path / "in"


def assay(*arguments: object) -> Result:
    return CliRunner().invoke(
        main, ["detect", "--weights", str(FIXTURE / "checkpoint"), "--dtype", "float32", *map(str, arguments)]
    )


def test_json_lines_have_the_documented_keys_and_follow_the_order_of_names(folder: Path) -> None:
    result = assay(folder, "--json", "--batch-size", 1)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["path"] for line in lines] == [str(folder / name) for name in ("a.jpg", "b.png", "sub/b.png")]
    assert set(lines[0]) == {"path", "error"}
    assert all(set(line) == KEYS for line in lines[1:])
    assert [line["label"] for line in lines[1:]] == ["authentic", "fake"]
    assert (lines[1]["width"], lines[1]["height"]) == (600, 400)
    assert re.fullmatch(r"[0-9a-f]{64}", lines[1]["weights"])
    assert lines[1]["mask"] is lines[1]["heatmap"] is lines[1]["probability"] is None
    assert result.exit_code == 1


def test_written_masks_and_heat_maps_are_what_the_model_found(folder: Path, tmp_path: Path, model: DeFakerOne) -> None:
    out = tmp_path / "out"
    result = assay(folder / "sub", "--json", "--out", out)
    assert result.exit_code == 0
    line = json.loads(result.stdout)
    detection = model.detect([photo("portrait")])[0]
    mask, heat = (np.asarray(cv2.imread(line[kind], cv2.IMREAD_UNCHANGED)) for kind in ("mask", "heatmap"))
    np.testing.assert_array_equal(mask, detection.mask * 255)
    assert float(np.abs(heat.astype(float) - detection.heatmap * 255.0).max()) <= 0.51
    assert Path(line["mask"]) == out / "b.png.mask.png"
    with Image.open(out / "b.png.overlay.jpg") as overlay:
        assert overlay.width == 520  # narrower, the caption would not be legible
        assert overlay.height > 480


def test_a_turned_photograph_gives_an_upright_mask(tmp_path: Path) -> None:
    (tmp_path / "turned.png").write_bytes(with_orientation(6, "PNG"))
    result = assay(tmp_path / "turned.png", "--json", "--out", tmp_path / "out")
    line = json.loads(result.stdout)
    mask = cv2.imread(line["mask"], cv2.IMREAD_UNCHANGED)
    assert mask is not None
    assert mask.shape == (line["height"], line["width"]) == (24, 40)


def test_files_of_one_name_do_not_overwrite_each_other(folder: Path, tmp_path: Path) -> None:
    result = assay(folder / "b.png", folder / "sub" / "b.png", "--json", "--out", tmp_path / "out")
    masks = [json.loads(line)["mask"] for line in result.stdout.splitlines()]
    assert [Path(mask).name for mask in masks] == ["b.png.mask.png", "b~2.png.mask.png"]


def test_the_contact_sheet_holds_everything_in_one_file(folder: Path, tmp_path: Path) -> None:
    (folder / "<script>alert(1)<.png").write_bytes(b"no image")
    result = assay(folder, "--report", "--out", tmp_path / "out")
    assert result.exit_code == 1
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('src="data:image/jpeg;base64,') == 4  # overlay and untouched picture of two images
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script>alert" not in page
    assert page.index("sub/b.png") < page.index(">b.png") < page.index("a.jpg")  # most suspicious first


def test_people_get_a_sentence_an_image(folder: Path) -> None:
    result = assay(folder)
    assert "b.png: authentic, score 0.050" in result.stdout
    assert "a.jpg: failed: not an image of a known format" in result.stdout


def test_an_absent_file_is_a_line_with_an_error(tmp_path: Path) -> None:
    result = assay(tmp_path / "absent.png", "--json")
    assert "No such file" in json.loads(result.stdout)["error"]
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mask", "sometimes", "x.png"], "always, never or above=X"),
        (["--weights", "nowhere", "x.png"], "--weights DIR"),
        ([], "Missing argument"),
    ],
)
def test_wrong_use_is_status_2_and_says_what_to_do(arguments: list[str], message: str) -> None:
    result = assay(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_an_empty_folder_is_wrong_use(tmp_path: Path) -> None:
    result = assay(tmp_path)
    assert result.exit_code == 2
    assert "no images in" in result.stderr


def test_skipped_localization_is_said_by_an_empty_mask(folder: Path) -> None:
    result = assay(folder / "sub", "--json", "--mask", "never")
    assert json.loads(result.stdout)["area_fraction"] == 0


def test_help_loads_neither_torch_nor_the_model() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from screening.cli import main;"
        "r = CliRunner().invoke(main, ['detect', '--help']); assert r.exit_code == 0, r.output;"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_running_out_of_memory_halves_the_batch(model: DeFakerOne) -> None:
    import torch

    class Small(DeFakerOne):
        calls: list[int] = []  # noqa: RUF012

        def infer(self, prepared):  # type: ignore[no-untyped-def]
            self.calls.append(len(prepared))
            if len(prepared) > 2:
                raise torch.OutOfMemoryError("full")
            return super().infer(prepared)

    small = Small(model.network, model.tokenizer, model.metadata, model.weights_sha256)
    prepared = [model.preprocess(photo(name).resize((100, 100))) for name in (*PHOTOS, *PHOTOS, "portrait")]
    scores = [inference.score for inference in infer_splitting(small, prepared)]
    assert scores == pytest.approx([inference.score for inference in model.infer(prepared)], abs=1e-5)
    assert small.calls == [5, 2, 3, 1, 2]


def test_files_come_back_in_order_with_errors_in_their_places(model: DeFakerOne, folder: Path) -> None:
    sources = list(find_sources([folder])) * 3
    results = list(screen_files(model, sources, lambda result: result, batch_size=2, threads=3))
    assert [result.source for result in results] == sources
    assert [result.error is None for result in results] == [False, True, True] * 3


def test_a_failing_finish_stops_the_run(model: DeFakerOne, folder: Path) -> None:
    def finish(result: Screened) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        list(screen_files(model, [Source(folder / "b.png", Path("b.png"))], finish))
