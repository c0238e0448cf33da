"""The manifest format: what is read, refused and written, and how image and mask stay on one grid."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from worker.defakerone.manifest import (
    CorruptImageError,
    Entry,
    MalformedManifestError,
    MaskMismatchError,
    MissingFileError,
    format_entry,
    parse_entry,
    read_manifest,
    write_manifest,
)
from worker.defakerone.samples import check_files, load_mask, load_sample

ROW: dict[str, Any] = {"id": "a", "image": "a.png", "mask": "a-mask.png", "label": "fake", "domain": "nature"}


def picture(width: int = 6, height: int = 4) -> Image.Image:
    grid = np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3)
    return Image.fromarray(grid)


def lay_out(folder: Path, image: Image.Image, mask: np.ndarray[Any, Any] | None, **fields: Any) -> Entry:
    image.save(folder / "a.png", exif=image.getexif())
    if mask is not None:
        Image.fromarray(mask).save(folder / "a-mask.png")
    row = {**ROW, "mask": None if mask is None else "a-mask.png", **fields}
    return parse_entry(json.dumps(row), folder)


def marked(width: int = 6, height: int = 4) -> np.ndarray[Any, Any]:
    mask = np.zeros((height, width), np.uint8)
    mask[0, 1:3] = 255
    return mask


def test_the_word_real_in_a_file_is_the_label_authentic_in_the_program() -> None:
    entry = parse_entry('{"id": "x", "image": "x.jpg", "label": "real", "domain": "document"}', Path("/m"))
    assert (entry.label, entry.is_fake, entry.operation) == ("authentic", False, "none")
    assert json.loads(format_entry(entry))["label"] == "real"


@given(
    st.fixed_dictionaries(
        {
            "id": st.text(min_size=1),
            "image": st.text(min_size=1),
            "mask": st.none() | st.text(min_size=1),
            "label": st.sampled_from(["real", "fake"]),
            "domain": st.sampled_from(["nature", "document", "deepfake", "aigc"]),
            "operation": st.text(min_size=1),
        },
        optional={
            "split": st.text(min_size=1),
            "group": st.text(min_size=1),
            "width": st.integers(1, 10_000),
            "mask_fraction": st.floats(0, 1),
            "sha256": st.binary(min_size=32, max_size=32).map(bytes.hex),
            "camera_make": st.text(),
            "notes": st.none() | st.lists(st.integers()),
        },
    )
)
def test_every_field_survives_a_round_trip_known_or_not(row: dict[str, Any]) -> None:
    assert json.loads(format_entry(parse_entry(json.dumps(row), Path()))) == row


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "is a JSON list"),
        ("{}", "lacks id, image, label, domain"),
        (json.dumps({**ROW, "label": "authentic"}), "label must be one of real, fake, not 'authentic'"),
        (json.dumps({**ROW, "domain": "portrait"}), "domain must be one of"),
        (json.dumps({**ROW, "image": 3}), "image must be a text"),
        (json.dumps({**ROW, "width": 0}), "width must be a whole number"),
        (json.dumps({**ROW, "height": True}), "height must be a whole number"),
        (json.dumps({**ROW, "mask_fraction": 1.5}), "mask_fraction must lie between 0 and 1"),
        (json.dumps({**ROW, "sha256": "abc"}), "sha256 must be 64"),
    ],
)
def test_a_wrong_line_is_refused_with_file_line_number_and_fault(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(json.dumps({**ROW, "id": "fine"}) + "\n\n" + line + "\n")
    with pytest.raises(MalformedManifestError) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"{path}: line 3: ")
    assert says in str(caught.value)


def test_an_id_that_occurs_twice_and_an_empty_manifest_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n{json.dumps(ROW)}\n")
    with pytest.raises(MalformedManifestError, match="'a' occurs 2 times"):
        read_manifest(tmp_path)
    path.write_text("\n")
    with pytest.raises(MalformedManifestError, match="holds no entry"):
        read_manifest(path)
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(MalformedManifestError, match="UTF-8"):
        read_manifest(path)
    with pytest.raises(MissingFileError, match="no such manifest"):
        read_manifest(tmp_path / "other.jsonl")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    entries = [parse_entry(json.dumps({**ROW, "id": name, "group": "g"}), tmp_path) for name in "äbc"]
    assert write_manifest(tmp_path / "out.jsonl", iter(entries)) == 3
    assert read_manifest(tmp_path / "out.jsonl") == entries


def test_a_full_disk_is_named_and_leaves_the_former_manifest_whole(tmp_path: Path) -> None:
    """In a process whose files the kernel refuses to let grow past 100 bytes, as a full disk would."""
    path = tmp_path / "manifest.jsonl"
    path.write_text("before")
    code = (
        "import resource, sys; from pathlib import Path; from worker.defakerone.manifest import *;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); path = Path(sys.argv[1]);"
        "write_manifest(path, [parse_entry(sys.argv[2], path.parent)])"
    )
    row = json.dumps({**ROW, "notes": "x" * 200})
    done = subprocess.run(
        [sys.executable, "-c", code, path, row], capture_output=True, text=True, timeout=60, check=False
    )
    assert f"ManifestWriteError: {path}: cannot be written: {os.strerror(errno.EFBIG)}" in done.stderr
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_an_entry_that_fails_halfway_leaves_nothing_behind(tmp_path: Path) -> None:
    def entries() -> Any:
        yield parse_entry(json.dumps(ROW), tmp_path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_manifest(tmp_path / "manifest.jsonl", entries())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_turns_image_and_mask_alike(tmp_path: Path, orientation: int) -> None:
    mask = marked()
    stored = Image.fromarray(np.dstack([mask, np.full_like(mask, 9), np.arange(24, dtype=np.uint8).reshape(4, 6)]))
    stored.getexif()[0x0112] = orientation
    entry = lay_out(tmp_path, stored, mask, width=6, height=4)
    sample = load_sample(entry)
    with Image.open(tmp_path / "a.png") as file:
        assert sample.image.tobytes() == ImageOps.exif_transpose(file).tobytes()
    assert sample.mask is not None
    assert np.array_equal(np.asarray(sample.image)[..., 0] == 255, sample.mask == 1)
    assert np.array_equal(load_mask(entry), sample.mask)  # type: ignore[arg-type]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_whose_reader_turns_it_keeps_its_mask(tmp_path: Path, orientation: int) -> None:
    mask = marked()
    Image.fromarray(np.dstack([mask] * 3)).save(tmp_path / "a.tif", tiffinfo={0x0112: orientation})
    Image.fromarray(mask).save(tmp_path / "a-mask.png")
    entry = parse_entry(json.dumps({**ROW, "image": "a.tif", "width": 6, "height": 4}), tmp_path)
    check_files([entry])
    sample = load_sample(entry)
    assert np.array_equal(np.asarray(sample.image)[..., 0] == 255, sample.mask == 1)
    assert np.array_equal(load_mask(entry), sample.mask)  # type: ignore[arg-type]


def test_a_mask_is_binarised_at_one_half(tmp_path: Path) -> None:
    mask = marked()
    mask[0, 1], mask[0, 2] = 127, 128
    sample = load_sample(lay_out(tmp_path, picture(), mask))
    assert sample.mask is not None
    assert np.argwhere(sample.mask).tolist() == [[0, 2]]


def test_a_missing_mask_is_named_before_and_while_loading(tmp_path: Path) -> None:
    entry = lay_out(tmp_path, picture(), marked())
    (tmp_path / "a-mask.png").unlink()
    for look in (load_sample, load_mask, lambda entry: check_files([entry])):
        with pytest.raises(MissingFileError, match=r"a-mask\.png.*names this mask"):
            look(entry)


def test_a_mask_of_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    entry = lay_out(tmp_path, picture(), marked(4, 6))
    for look in (load_sample, load_mask, lambda entry: check_files([entry])):
        with pytest.raises(MaskMismatchError, match=r"a-mask\.png: has 4 x 6 pixels, its image stores 6 x 4"):
            look(entry)


def test_a_mask_of_ones_instead_of_255_is_refused_and_not_read_as_empty(tmp_path: Path) -> None:
    entry = lay_out(tmp_path, picture(), marked() // 255)
    with pytest.raises(MaskMismatchError, match="its largest value is 1,"):
        load_sample(entry)


def test_a_real_image_may_have_a_black_mask_and_no_other(tmp_path: Path) -> None:
    sample = load_sample(lay_out(tmp_path, picture(), np.zeros((4, 6), np.uint8), label="real"))
    assert sample.mask is not None
    assert not sample.mask.any()
    with pytest.raises(MaskMismatchError, match="labels its image as real"):
        load_sample(lay_out(tmp_path, picture(), marked(), label="real"))


def damage_by_cutting(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def damage_by_overwriting(path: Path) -> None:
    path.write_bytes(b"no image at all")


@pytest.mark.parametrize("damage", [damage_by_cutting, damage_by_overwriting])
@pytest.mark.parametrize("name", ["a.png", "a-mask.png"])
def test_a_corrupt_image_or_mask_is_named(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    entry = lay_out(tmp_path, picture(64, 64), marked(64, 64))
    damage(tmp_path / name)
    with pytest.raises(CorruptImageError) as caught:
        load_sample(entry)
    assert caught.value.path == tmp_path / name


def test_an_image_that_is_not_the_described_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptImageError, match="not the file that the manifest describes"):
        load_sample(lay_out(tmp_path, picture(), None, sha256="0" * 64))
    with pytest.raises(CorruptImageError, match="6 x 4 stored pixels, but the manifest says 6 x 5"):
        load_sample(lay_out(tmp_path, picture(), None, height=5))


def test_the_check_of_all_files_names_every_fault_up_to_a_number(tmp_path: Path) -> None:
    entries = [parse_entry(json.dumps({**ROW, "image": f"{i}.png"}), tmp_path) for i in range(12)]
    with pytest.raises(MissingFileError) as caught:
        check_files(entries)
    message = str(caught.value)
    assert all(f"{i}.png" in message for i in range(10))
    assert "10.png" not in message
    assert message.endswith("and 2 more")


@pytest.mark.shared
@pytest.mark.parametrize("folder", ["eval-dev", "photos", "aigc-examples"])
def test_the_shared_manifests_and_their_files_pass_every_check(folder: str) -> None:
    shared = os.environ.get("ASSAY_SHARED")
    if shared is None:
        pytest.skip("ASSAY_SHARED is not set: the shared manifests were NOT checked")
    entries = read_manifest(Path(shared) / "data" / folder)
    check_files(entries)
    assert {entry.label for entry in entries} <= {"authentic", "fake"}
