"""How do drawn samples become batches, the same ones in the same order however many processes draw them?

Picture number i depends on the seed and on i alone, and batch number k holds fixed numbers: a resumed run sees
exactly what an unbroken one would have seen.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from worker.defakerone.config import DeFakerOneConfig
from worker.defakerone.training.forgery.shapes import draw_region
from worker.defakerone.training.forgery.synthesis import Sample
from worker.defakerone.training.forgery.traces import TraceSample
from worker.defakerone.training.rows import Row, RowWriter, TileView, cut_shares, cut_tiles, pad_rows, show_few
from worker.defakerone.training.settings import Stage
from worker.defakerone.training.sources import Source
from worker.defakerone.training.templates import load_templates
from worker.defakerone.training.views import CELL, SquareView, square_view


@dataclass(frozen=True)
class Item:
    """One row of a batch before it is stacked."""

    square: SquareView | None
    tiles: TileView | None
    row: Row | None
    fake: bool
    domain: str
    operation: str
    traces: npt.NDArray[Any] | None = None  # (traces, side / 4, side / 4)


@dataclass
class Batch:
    """Stacked items. Parts that a stage does not use are None; images stay uint8 until they are on the device."""

    fake: Tensor  # (n,)
    squares: Tensor | None = None  # (n, S, S, 3)
    targets: Tensor | None = None  # (n, S/4, S/4)
    supervised: Tensor | None = None  # (n,)
    doubles: Tensor | None = None  # (n, S/8, S/8, 2)
    traces: Tensor | None = None  # (n, traces, S/4, S/4)
    tiles: Tensor | None = None  # (all tiles, s, s, 3)
    patches: Tensor | None = None  # (all tiles, grid, grid)
    ids: Tensor | None = None  # (n, length)
    labels: Tensor | None = None  # (n, length)
    verdicts: Tensor | None = None  # (n,)
    kinds: tuple[tuple[str, str], ...] = ()

    def to(self, device: torch.device) -> "Batch":
        """Move every tensor."""
        held = {item.name: getattr(self, item.name) for item in fields(self)}
        moved: dict[str, Any] = {
            name: v.to(device, non_blocking=True) for name, v in held.items() if isinstance(v, Tensor)
        }
        return replace(self, **moved)


class Views(Dataset[list[Item]]):
    """Turns picture number i into the views that a stage learns from."""

    def __init__(
        self, source: Source, stage: Stage, config: DeFakerOneConfig, writer: RowWriter, seed: int, train: bool
    ) -> None:
        """Keep what a view depends on; `train` False gives the product's own view and question."""
        self.source, self.stage, self.config, self.writer = source, stage, config, writer
        self.seed, self.train = seed, train
        self.templates = load_templates().templates

    def __getitem__(self, index: int) -> list[Item]:
        """Draw the views of one picture."""
        cv2.setNumThreads(1)
        rng = np.random.default_rng((self.seed, index, 1))
        sample = self.source.draw(index)
        if isinstance(sample, TraceSample):
            return [self._trace_item(sample, rng)]
        return [self._item(sample, rng) for _ in range(self.stage.views if self.train else 1)]

    def _item(self, sample: Sample, rng: np.random.Generator) -> Item:
        stage, full = self.stage, self.config.grounding.image_size
        square = tiles = row = None
        if stage.branch != "language":
            square = square_view(rng, sample, stage.square or full, full, stage.crop if self.train else 0.0, self.train)
        if stage.branch != "mask":
            tiles = cut_tiles(sample, self.config)
            if stage.tiles is not None and self.train and stage.branch == "language":
                tiles = self._few(sample, tiles, int(rng.integers(1, stage.tiles + 1)), rng)
            row = self._row(tiles, rng)
        return Item(square, tiles, row, tiles.fake if tiles else sample.fake, sample.domain, sample.operation)

    def _few(self, sample: Sample, tiles: TileView, count: int, rng: np.random.Generator) -> TileView:
        if len(tiles.tiles) <= count:
            return tiles
        if tiles.fake:
            return show_few(rng, tiles, count, tiles.patches)
        return show_few(rng, tiles, count, cut_shares(draw_region(rng, sample.pixels), self.config))

    def _row(self, tiles: TileView, rng: np.random.Generator) -> Row:
        template = self.templates[int(rng.integers(len(self.templates))) if self.train else 0]
        if self.stage.branch == "joint" and self.stage.marker == "prompt":
            return self.writer.write_short(template, len(tiles.tiles), tiles.fake)
        return self.writer.write(template, len(tiles.tiles), tiles.fake, marker=self.stage.branch == "joint")

    def _trace_item(self, sample: TraceSample, rng: np.random.Generator) -> Item:
        side = sample.mask.shape[0]
        across, down = (int(step) for step in rng.choice((1, -1), 2))  # a sample that comes back comes mirrored
        pixels, mask = (np.ascontiguousarray(part[::down, ::across]) for part in (sample.pixels, sample.mask))
        fake = bool(mask.any())
        if self.stage.branch == "mask":
            share = _reduce(mask, side // 4)
            unknown = np.full((side // CELL, side // CELL, 2), np.nan, np.float32)
            square = SquareView(pixels, share, unknown, supervised=True)
            return Item(square, None, None, fake, "nature", "trace", sample.strengths(share))
        share = _reduce(mask, self.config.vision.grid)
        tiles = TileView(pixels[None], share[None], fake)
        return Item(None, tiles, self._row(tiles, rng), fake, "nature", "trace", sample.strengths(share))


def _reduce(mask: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    return cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


class Collate:
    """Stacks the views of one batch."""

    def __init__(self, pad: int) -> None:
        """`pad` fills token rows on the right."""
        self.pad = pad

    def __call__(self, drawn: list[list[Item]]) -> Batch:
        """Stack items; the parts that no item has stay None."""
        items = [item for views in drawn for item in views]
        batch = Batch(torch.tensor([float(i.fake) for i in items]), kinds=tuple((i.domain, i.operation) for i in items))
        squares = [item.square for item in items if item.square is not None]
        if squares:
            self._squares(batch, squares)
        tiles = [item.tiles for item in items if item.tiles is not None]
        if tiles:
            batch.tiles = torch.from_numpy(np.concatenate([view.tiles for view in tiles]))
            batch.patches = torch.from_numpy(np.concatenate([view.patches for view in tiles]))
        rows = [item.row for item in items if item.row is not None]
        if rows:
            batch.ids, batch.labels = pad_rows(rows, self.pad)
            batch.verdicts = torch.tensor([row.verdict for row in rows])
        traces = [item.traces for item in items if item.traces is not None]
        if traces:
            batch.traces = torch.from_numpy(np.stack(traces))
        return batch

    @staticmethod
    def _squares(batch: Batch, squares: list[SquareView]) -> None:
        batch.squares = torch.from_numpy(np.stack([view.pixels for view in squares]))
        batch.targets = torch.from_numpy(np.stack([view.target for view in squares]))
        batch.supervised = torch.tensor([float(view.supervised) for view in squares])
        batch.doubles = torch.from_numpy(np.stack([view.doubles for view in squares]))


class Counting(Sampler[list[int]]):
    """Batch number k of rank r out of n holds fixed picture numbers; it starts anywhere and ends at `stop` or never."""

    def __init__(self, size: int, start: int, rank: int = 0, ranks: int = 1, stop: int | None = None) -> None:
        self.size, self.start, self.rank, self.ranks, self.stop = size, start, rank, ranks, stop

    def __iter__(self) -> Iterator[list[int]]:
        """Yield lists of picture numbers."""
        batch = self.start
        while self.stop is None or batch < self.stop:
            first = (batch * self.ranks + self.rank) * self.size
            yield list(range(first, first + self.size))
            batch += 1


def batches(
    views: Views, collate: Collate, start: int, workers: int, rank: int = 0, ranks: int = 1, stop: int | None = None
) -> DataLoader[list[Item]]:
    """Draw batches from number `start` on in `workers` processes."""
    size = views.stage.batch // views.stage.views if views.train else views.stage.batch
    context = None
    if workers:
        # A plain fork inherits the locks of threads (OpenCV's, the tokenizer's, CUDA's) that are not there to release
        # them, and then waits for ever. The fork server has imported everything and started nothing.
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])
    return DataLoader(
        views,
        batch_sampler=Counting(size, start, rank, ranks, stop),
        collate_fn=collate,
        num_workers=workers,
        multiprocessing_context=context,
        worker_init_fn=_end_with_training,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),  # opening a stream must not move the dice that dropout and sampling throw
    )


def _end_with_training(_: int) -> None:
    """Let this drawing process end when the one that trains does, however that ends.

    torch watches the parent's number. Here that is the fork server, which in turn waits for us: a training that is
    killed would leave both behind for ever.
    """
    training = parent_process()
    assert training is not None  # noqa: S101 - a drawing process was started by one
    Thread(target=_exit_after, args=(training,), daemon=True).start()


def _exit_after(process: BaseProcess) -> None:
    process.join()
    os._exit(1)
