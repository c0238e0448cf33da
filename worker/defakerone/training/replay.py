"""How does a fast device stay busy while forgeries are being drawn?

Drawing a forgery takes a core ten times as long as an accelerator takes to learn from it. A batch therefore stays on
the device for a while, and whenever the next one is not there yet, a batch that is comes back mirrored. Which ones
come back depends on the clock: a run with replay resumes, but not to the same numbers.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import Tensor

from worker.defakerone.training.batches import Batch

WAITING = 4  # batches that lie ready
KEPT = 96  # batches that may come back


class Replay:
    """An endless stream of batches on a device: fresh ones as soon as they are there, older ones mirrored between."""

    def __init__(self, stream: Iterator[Batch], device: torch.device, times: int) -> None:
        """`times` is how often a batch is shown at most on average; at least that share of all batches is fresh."""
        self.stream, self.device, self.times = stream, device, times
        self.fetcher = ThreadPoolExecutor(1, "fetch")
        self.coming = deque(self.fetcher.submit(self._fetch) for _ in range(WAITING))
        self.kept: deque[Batch] = deque(maxlen=KEPT)
        self.fresh = self.shown = 0
        self.dice = torch.Generator().manual_seed(0)

    def __iter__(self) -> Iterator[Batch]:
        """Give batches for ever, until the iterator is closed; raises what drawing raised."""
        try:
            while True:
                must_wait = self.shown >= self.times * self.fresh
                batch = self._fresh() if must_wait or self.coming[0].done() else self._again()
                self.shown += 1
                yield batch
        finally:
            self.fetcher.shutdown(wait=True, cancel_futures=True)

    def _fresh(self) -> Batch:
        batch = self.coming.popleft().result()
        self.coming.append(self.fetcher.submit(self._fetch))
        self.fresh += 1
        self.kept.append(batch)
        return batch

    def _again(self) -> Batch:
        place = int(torch.randint(len(self.kept), (), generator=self.dice))
        return mirrored(self.kept[place], self.dice)

    def _fetch(self) -> Batch:
        return next(self.stream).to(self.device)


def mirrored(batch: Batch, dice: torch.Generator) -> Batch:
    """Mirror a batch at random: squares left to right and, documents aside, top to bottom; each tile left to right."""
    rows = len(batch.fake)
    across = _coin(rows, dice).to(batch.fake.device)
    upright = torch.tensor([domain == "document" for domain, _ in batch.kinds], device=batch.fake.device)
    down = _coin(rows, dice).to(batch.fake.device) & ~upright
    changed = batch
    if batch.squares is not None:
        changed = replace(
            changed,
            squares=_flip(_flip(batch.squares, across, 2), down, 1),
            targets=None if batch.targets is None else _flip(_flip(batch.targets, across, 2), down, 1),
            doubles=None if batch.doubles is None else _flip_places(batch.doubles, across, down),
            traces=None if batch.traces is None else _flip(_flip(batch.traces, across, 3), down, 2),
        )
    if batch.tiles is None or batch.patches is None:
        return changed
    each = _coin(len(batch.tiles), dice).to(batch.fake.device)
    traces = changed.traces if batch.squares is not None or batch.traces is None else _flip(batch.traces, each, 3)
    return replace(changed, tiles=_flip(batch.tiles, each, 2), patches=_flip(batch.patches, each, 2), traces=traces)


def _coin(count: int, dice: torch.Generator) -> Tensor:
    return torch.rand(count, generator=dice) < 0.5


def _flip(values: Tensor, which: Tensor, dim: int) -> Tensor:
    """Mirror some rows of `values` along a dimension."""
    chosen = which.view(-1, *[1] * (values.ndim - 1))
    return torch.where(chosen, values.flip(dim), values)


def _flip_places(places: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Mirror a field of places (n, h, w, 2), which are mirrored too; what lies nowhere (-1) or is unknown stays so."""
    for which, dim, axis in ((across, 2, 0), (down, 1, 1)):
        flipped = _flip(places, which, dim)
        opposite = flipped.clone()
        opposite[..., axis] = 1 - flipped[..., axis]
        known = (flipped[..., :1] >= 0) & which.view(-1, 1, 1, 1)
        places = torch.where(known, opposite, flipped)
    return places
