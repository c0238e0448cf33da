"""Forgeries: exact masks, no cue outside them, the same under one seed, and nothing half-written."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pictures import texture
from worker.defakerone.manifest import CorruptImageError, MissingFileError, read_manifest
from worker.defakerone.samples import load_sample
from worker.defakerone.training.forgery import corpus
from worker.defakerone.training.forgery.blending import blend_bands, footprint, match_surroundings, soften
from worker.defakerone.training.forgery.corpus import CorpusError, CorpusJob, write_corpus
from worker.defakerone.training.forgery.journey import (
    STANDARD_TABLES,
    Mask,
    compress_as_editor,
    editor_tables,
    travel,
)
from worker.defakerone.training.forgery.operations import copy_move, retouch, splice
from worker.defakerone.training.forgery.photos import PhotoLibrary, Pixels
from worker.defakerone.training.forgery.removal import removal
from worker.defakerone.training.forgery.resynthesis import local_resynthesis
from worker.defakerone.training.forgery.synthesis import Recipe, Synthesizer

SEED = 20261123


@pytest.mark.parametrize("act", [copy_move, retouch, removal, local_resynthesis])
def test_what_lies_outside_the_mask_of_a_forgery_is_untouched(act) -> None:  # type: ignore[no-untyped-def]
    print(f"seed {SEED}")
    for number in range(12):
        pixels = texture(number)
        edit = act(np.random.default_rng((SEED, number)), pixels)
        assert edit.mask.shape == pixels.shape[:2]
        assert set(np.unique(edit.mask)) <= {0, 255}
        grown = np.asarray(Image.fromarray(edit.mask).resize((40, 30), Image.Resampling.BOX)) > 0
        far = ~np.kron(_dilate(grown), np.ones((8, 8), bool))
        assert np.array_equal(edit.pixels[far], pixels[far])


def _dilate(mask: Mask) -> Mask:
    padded = np.pad(mask, 2)
    height, width = mask.shape
    shifted = [padded[y : y + height, x : x + width] for y in range(5) for x in range(5)]
    return np.asarray(np.stack(shifted).any(axis=0))


def test_a_copied_pixel_is_found_where_the_forgery_says_it_came_from() -> None:
    print(f"seed {SEED}")
    pixels, checked = texture(3), 0
    for number in range(30):
        edit = copy_move(np.random.default_rng((SEED, number)), pixels)
        shift = edit.sources[0] if len(edit.sources) == 1 else np.zeros((3, 3))
        if not np.allclose(shift[:2, :2], np.eye(2)):
            continue  # only pure shifts keep values exactly
        inside = np.argwhere(edit.mask > 0)[::37]
        origin = np.round(inside + shift[[1, 0], 2]).astype(int)
        same = np.abs(edit.pixels[tuple(inside.T)].astype(int) - pixels[tuple(origin.T)]).max(1) <= 3
        checked += same.mean() > 0.6  # a feathered border and a recoloured copy differ
    assert checked >= 3


def test_a_splice_shows_the_donor_inside_its_mask() -> None:
    background, donor = np.full((200, 300, 3), 20, np.uint8), np.full((200, 300, 3), 220, np.uint8)
    edit = splice(np.random.default_rng(1), background, donor)
    assert edit.pixels[edit.mask > 0].mean() > edit.pixels[edit.mask == 0].mean()


def _spot() -> tuple[Pixels, Pixels, Mask]:
    background, donor = texture(1), 255 - texture(2)
    mask = np.zeros(background.shape[:2], np.uint8)
    mask[80:170, 100:220] = 255
    return background, donor, mask


def test_bands_are_blended_inside_the_mask_alone_and_the_finest_up_to_its_border() -> None:
    background, donor, mask = _spot()
    blended = blend_bands(background, donor, mask)
    assert np.array_equal(blended[mask == 0], background[mask == 0])
    middle = blended[110:140, 140:180].astype(int)
    assert np.abs(middle - donor[110:140, 140:180]).mean() < 12
    assert np.abs(middle - background[110:140, 140:180]).mean() > 3 * np.abs(middle - donor[110:140, 140:180]).mean()


def test_a_match_with_the_surroundings_goes_by_what_lies_around_the_region_and_not_by_the_whole_picture() -> None:
    background, donor, mask = np.full((240, 320, 3), 20, np.uint8), np.full((240, 320, 3), 90, np.uint8), _spot()[2]
    background[60:190, 80:240] = 200
    matched = match_surroundings(donor, background, mask, 1.0)
    assert abs(float(matched[mask > 0].mean()) - 200) < 2
    assert np.array_equal(match_surroundings(donor, background, mask, 0.0), donor)


def test_an_edit_that_fades_in_is_opaque_in_its_middle_and_changes_nothing_outside() -> None:
    mask, faded = _spot()[2], 0
    for number in range(60):
        alpha = soften(np.random.default_rng((SEED, number)), mask)
        assert alpha[120, 160] == pytest.approx(1.0, abs=1e-3)
        if alpha[82, 160] < 0.9 and not alpha[mask == 0].any():
            faded += 1
            assert 0.3 < footprint(alpha).sum() / mask.sum() < 1
    print(f"seed {SEED}: {faded} of 60 fade in")
    assert 4 <= faded <= 22


def test_editors_tables_are_flatter_than_the_standard_ones_and_keep_more_of_fine_detail() -> None:
    rng, pixels, errors = np.random.default_rng(SEED), texture(5), []
    for quality in (40, 70, 95):
        scale = (5000 / quality if quality < 50 else 200 - 2 * quality) / 100
        for table, standard in zip(editor_tables(rng, quality), STANDARD_TABLES, strict=True):
            assert min(table) >= 1
            assert all(own <= max(1, round(step * scale)) for own, step in zip(table, standard, strict=True))
        saved = compress_as_editor(rng, pixels, quality)
        assert saved.shape == pixels.shape
        errors.append(float(np.abs(saved.astype(int) - pixels).mean()))
    assert errors[0] > errors[1] > errors[2] > 0


def test_a_journey_keeps_mask_and_picture_aligned() -> None:
    print(f"seed {SEED}")
    pixels = np.zeros((240, 320, 3), np.uint8)
    mask = np.zeros((240, 320), np.uint8)
    mask[60:160, 80:220] = 255
    pixels[mask > 0] = 230
    for number in range(40):
        moved, marked, _ = travel(np.random.default_rng((SEED, number)), pixels, mask)
        assert moved.shape[:2] == marked.shape
        bright = moved.mean(2) > 110
        assert np.logical_xor(bright, marked > 0).mean() < 0.03


def test_a_sample_depends_on_seed_and_index_alone(photos: Path, tmp_path: Path) -> None:
    library = PhotoLibrary(photos, "all", tmp_path / "cache")
    first, again = (Synthesizer(library, SEED, Recipe(largest=300)) for _ in range(2))
    forwards = [first.draw(index) for index in range(6)]
    for index in reversed(range(6)):
        sample = again.draw(index)
        assert np.array_equal(sample.pixels, forwards[index].pixels)
        assert np.array_equal(sample.mask, forwards[index].mask)


def test_a_corpus_is_the_same_however_many_processes_write_it(photos: Path, tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        *_, done = write_corpus(CorpusJob(photos, tmp_path / name, 20, SEED), workers, tmp_path / "cache")
        assert done == 20
    one, two = (sorted(path.relative_to(tmp_path / n) for path in (tmp_path / n).rglob("*")) for n in ("one", "two"))
    assert one == two
    assert all((tmp_path / "one" / p).read_bytes() == (tmp_path / "two" / p).read_bytes() for p in one if p.suffix)
    for entry in read_manifest(tmp_path / "one"):
        sample = load_sample(entry)
        assert entry.is_fake == (sample.mask is not None and bool(sample.mask.any()))


def test_a_disk_that_fills_up_leaves_nothing_behind(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(corpus, "write_manifest", full)
    with pytest.raises(CorpusError, match="No space left on device"):
        list(write_corpus(CorpusJob(photos, tmp_path / "out", 4, SEED), 1, tmp_path / "cache"))
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_a_missing_photo_and_a_damaged_one_are_named(photos: Path, tmp_path: Path) -> None:
    (photos / "p1.png").unlink()
    with pytest.raises(MissingFileError, match=r"p1\.png"):
        PhotoLibrary(photos, "all", tmp_path / "cache")
    (photos / "p1.png").write_bytes(b"not a picture")
    with pytest.raises(CorruptImageError, match=r"p1\.png"):
        PhotoLibrary(photos, "all", tmp_path / "cache")


def test_photos_of_one_camera_never_fall_on_both_sides(photos: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (photos / "manifest.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row["camera_model"] = f"camera {number % 3}"
    (photos / "manifest.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    camera = {row["id"]: row["camera_model"] for row in rows}
    sides: dict[str, set[str]] = {}
    for split in ("train", "validation"):
        try:
            found = PhotoLibrary(photos, split, tmp_path / "cache").photos
        except ValueError:
            continue
        for photo in found:
            sides.setdefault(camera[photo.id], set()).add(split)
    assert all(len(side) == 1 for side in sides.values())
