"""Batches: the same pictures in the same order, balanced over domains, whoever draws them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from worker.defakerone.config import DEFAKERONE_TINY
from worker.defakerone.manifest import read_manifest
from worker.defakerone.prompt import PromptConfig
from worker.defakerone.tokenizer import Tokenizer
from worker.defakerone.training.batches import Batch, Collate, Views, batches
from worker.defakerone.training.forgery.photos import PhotoLibrary
from worker.defakerone.training.forgery.synthesis import Sample
from worker.defakerone.training.forgery.traces import TRACES
from worker.defakerone.training.losses import IGNORED
from worker.defakerone.training.rows import RowWriter, TileView, cut_tiles, show_few
from worker.defakerone.training.settings import Stage
from worker.defakerone.training.sources import ManifestSource, MixedSource, RepeatedSource, TraceSource

TOKENIZER = Path(__file__).parents[2] / "fixtures" / "defakerone" / "checkpoint"


@pytest.fixture
def views(manifest: Path) -> Views:
    stage = Stage(name="joint", branch="joint", source="manifest", batch=4)
    writer = RowWriter(Tokenizer.from_directory(TOKENIZER), PromptConfig(), DEFAKERONE_TINY.tokens_per_tile)
    return Views(ManifestSource(read_manifest(manifest), 5), stage, DEFAKERONE_TINY, writer, 5, train=True)


def _drawn(views: Views, start: int, workers: int, count: int) -> list[Batch]:
    return list(batches(views, Collate(2), start, workers, stop=start + count))


def test_processes_and_starting_points_do_not_change_what_a_batch_holds(views: Views) -> None:
    whole = _drawn(views, 0, 0, 4)
    for later in (_drawn(views, 2, 0, 2), _drawn(views, 2, 2, 2)):
        for one, two in zip(whole[2:], later, strict=True):
            assert one.squares is not None
            assert two.squares is not None
            assert torch.equal(one.squares, two.squares)
            assert one.ids is not None
            assert two.ids is not None
            assert torch.equal(one.ids, two.ids)


def test_a_short_row_learns_the_verdict_alone_and_shows_seg_where_the_product_puts_it(views: Views) -> None:
    (batch,) = _drawn(views, 0, 0, 1)
    assert batch.labels is not None
    assert batch.verdicts is not None
    assert batch.ids is not None
    tokenizer = views.writer.tokenizer
    for row, verdict, fake in zip(range(4), batch.verdicts.tolist(), batch.fake.tolist(), strict=True):
        learned = torch.nonzero(batch.labels[row] != IGNORED)[:, 0].tolist()
        assert learned == [verdict + 1]
        word = tokenizer.decode([int(batch.labels[row, verdict + 1])])
        assert word in (("Yes", "Yeah", "True", "Sure") if fake else ("No", "Not", "Never", "None"))
        assert int(batch.ids[row, verdict + 1]) == tokenizer.id_of("[SEG]")


def test_domains_are_drawn_alike_however_many_pictures_each_has(manifest: Path) -> None:
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row in rows[:2]:
        row["domain"] = "document"
    manifest.write_text("\n".join(json.dumps(row) for row in rows))
    source = ManifestSource(read_manifest(manifest), 9)
    drawn = [source.draw(number).domain for number in range(300)]
    assert 0.4 < np.mean([domain == "document" for domain in drawn]) < 0.6


def test_labelled_pictures_come_in_their_share(manifest: Path) -> None:
    class Blank:
        def draw(self, index: int) -> Sample:
            pixels = np.zeros((64, 64, 3), np.uint8)
            return Sample(pixels, pixels[..., 0], False, "aigc", "none", (str(index),))

    mixed = MixedSource(Blank(), ManifestSource(read_manifest(manifest), 1), 0.25, 1)
    drawn = [mixed.draw(number) for number in range(400)]
    assert all(isinstance(sample, Sample) for sample in drawn)
    share = np.mean([isinstance(sample, Sample) and sample.domain == "nature" for sample in drawn])
    assert 0.17 < share < 0.33
    assert all(sample.pixels.shape[:2] == sample.mask.shape for sample in drawn)


def test_a_window_that_comes_back_is_mirrored_together_with_its_mask(photos: Path, tmp_path: Path) -> None:
    library = PhotoLibrary(photos, "all", tmp_path / "cache")
    source = TraceSource(library, 1, 64)
    stage = Stage(name="traces", branch="mask", source="traces", square=64, batch=1, repeat=8)
    writer = RowWriter(Tokenizer.from_directory(TOKENIZER), PromptConfig(), DEFAKERONE_TINY.tokens_per_tile)
    views = Views(RepeatedSource(source, 8, stretch=1), stage, DEFAKERONE_TINY, writer, 5, train=True)
    drawn = source.draw(0)
    seen = set()
    for index in range(8):
        (item,) = views[index]
        assert item.square is not None
        turns = [(down, across) for down in (1, -1) for across in (1, -1)
                 if np.array_equal(item.square.pixels, drawn.pixels[::down, ::across])]  # fmt: skip
        assert len(turns) == 1
        (down, across) = turns[0]
        share = drawn.mask[::down, ::across].reshape(16, 4, 16, 4).mean((1, 3)) / 255
        assert np.allclose(item.square.target, share, atol=0.01)
        seen.add(turns[0])
    assert len(seen) > 1


def test_windows_with_one_history_are_authentic_and_come_in_their_share(photos: Path, tmp_path: Path) -> None:
    library = PhotoLibrary(photos, "all", tmp_path / "cache")
    stage = Stage(name="traces", branch="language", source="traces", batch=4, authentic=0.4)
    writer = RowWriter(Tokenizer.from_directory(TOKENIZER), PromptConfig(), DEFAKERONE_TINY.tokens_per_tile)
    views = Views(TraceSource(library, 5, 32, stage.authentic), stage, DEFAKERONE_TINY, writer, 5, train=True)
    items = [views[number][0] for number in range(200)]
    assert 0.3 < np.mean([not item.fake for item in items]) < 0.5
    for item in items:
        assert item.tiles is not None
        assert item.row is not None
        assert item.tiles.patches.any() == item.fake
        word = writer.tokenizer.decode([item.row.labels[item.row.verdict + 1]])
        assert word in (("Yes", "Yeah", "True", "Sure") if item.fake else ("No", "Not", "Never", "None"))


def test_traces_alone_do_not_tell_windows_with_one_history_from_those_with_two(photos: Path, tmp_path: Path) -> None:
    library = PhotoLibrary(photos, "all", tmp_path / "cache")
    mean: dict[bool, list[float]] = {True: [], False: []}
    source = TraceSource(library, 5, 64, 0.5)
    for number in range(400):
        sample = source.draw(number)
        share = sample.mask.mean() / 255
        strength = (1 - share) * sample.outside + share * sample.inside
        mean[bool(sample.mask.any())].append(float(strength.sum()))
        if not sample.mask.any():
            assert np.array_equal(sample.inside, sample.outside)
            assert not sample.outside[TRACES.index("redrawn")], (
                "a window that was drawn again as a whole is no authentic one"
            )
    assert abs(np.mean(mean[True]) - np.mean(mean[False])) < 0.5 * np.std(mean[False])


@pytest.mark.parametrize("fake", [True, False])
def test_a_few_tiles_are_shown_around_where_one_would_forge_whether_somebody_did_or_not(fake: bool) -> None:
    focus = np.zeros((9, 4, 4), np.float32)
    focus[5, 1, 2] = 0.9
    view = TileView(np.arange(9, dtype=np.uint8)[:, None, None, None], focus if fake else np.zeros_like(focus), fake)
    for number in range(60):
        rng = np.random.default_rng((7, number))
        few = show_few(rng, view, 1 + number % 4, focus)
        assert len(few.tiles) == 1 + number % 4
        assert 5 in few.tiles.ravel()
        assert few.fake == fake


def test_an_authentic_picture_is_cut_where_a_forger_would_have_chosen_to_work() -> None:
    stage = Stage(name="verdicts", branch="language", batch=4, tiles=1)
    config = replace(DEFAKERONE_TINY, max_tiles=12)
    writer = RowWriter(Tokenizer.from_directory(TOKENIZER), PromptConfig(), config.tokens_per_tile)
    pixels = np.full((96, 128, 3), 120, np.uint8)
    pixels[40:60, 50:80] = (250, 30, 30)  # the only thing in sight, in the middle
    sample = Sample(pixels, np.zeros((96, 128), np.uint8), False, "nature", "none", ("x",))

    class One:
        def draw(self, _: int) -> Sample:
            return sample

    def is_red(tiles: npt.NDArray[Any]) -> bool:
        return bool((tiles[..., 0] > 200).any())

    every = cut_tiles(sample, config).tiles
    by_chance = np.mean([is_red(tile) for tile in every[:-1]])
    views = Views(One(), stage, config, writer, 5, train=True)
    shown = [views[number][0].tiles for number in range(80)]
    found = np.mean([view is not None and is_red(view.tiles) for view in shown])
    print(f"shown in {found:.2f} of 80 views, by chance in {by_chance:.2f}")
    assert found > 1.5 * by_chance
