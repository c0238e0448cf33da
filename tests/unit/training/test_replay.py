"""Replay: a device learns from what it holds while the next forgeries are being drawn."""

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from worker.defakerone.training.batches import Batch
from worker.defakerone.training.replay import WAITING, Replay, mirrored

CPU = torch.device("cpu")
SIDE = 32


def _own_places(rows: int) -> Tensor:
    """Each cell's own centre, as a field of doubles (rows, h, w, 2)."""
    centre = (torch.arange(SIDE // 8) + 0.5) / (SIDE // 8)
    grid = torch.stack(torch.meshgrid(centre, centre, indexing="xy"), -1)
    return grid.expand(rows, -1, -1, -1).clone()


def _batch(seed: int, domain: str = "nature", rows: int = 6) -> Batch:
    dice = torch.Generator().manual_seed(seed)
    squares = torch.randint(256, (rows, SIDE, SIDE, 3), generator=dice, dtype=torch.uint8)
    tiles = torch.randint(256, (rows, SIDE, SIDE, 3), generator=dice, dtype=torch.uint8)
    return Batch(
        torch.ones(rows),
        squares=squares,
        targets=squares[:, ::4, ::4, 0].float(),
        doubles=_own_places(rows),
        tiles=tiles,
        patches=tiles[:, ::16, ::16, 0].float(),
        kinds=((domain, "splice"),) * rows,
    )


def test_a_batch_is_shown_as_often_as_allowed_and_then_the_next_one_is_waited_for() -> None:
    drawn_more = threading.Event()

    def draw() -> Iterator[Batch]:
        for number in range(100):
            if number == WAITING:
                drawn_more.wait(30)
            yield _batch(number)

    replay = Replay(draw(), CPU, times=3)
    stream = iter(replay)
    for _ in range(3 * WAITING):
        next(stream)
    assert (replay.fresh, replay.shown) == (WAITING, 3 * WAITING)
    drawn_more.set()
    assert torch.equal(next(stream).fake, torch.ones(6))
    assert replay.fresh == WAITING + 1


def test_what_goes_wrong_while_drawing_is_raised_where_batches_are_taken() -> None:
    def draw() -> Iterator[Batch]:
        yield _batch(0)
        raise OSError("no space left")

    stream = iter(Replay(draw(), CPU, times=1))
    next(stream)
    with pytest.raises(OSError, match="no space left"):
        next(stream)


@pytest.mark.parametrize("seed", range(8))
def test_everything_known_of_a_picture_is_mirrored_with_it(seed: int) -> None:
    batch = _batch(seed)
    turned = mirrored(batch, torch.Generator().manual_seed(seed))
    assert turned.squares is not None
    assert turned.targets is not None
    assert turned.doubles is not None
    held = {tuple(row.flatten().tolist()) for row in turned.squares}
    assert held != {tuple(row.flatten().tolist()) for row in _batch(seed).squares}  # type: ignore[union-attr]
    for row, target, before in zip(turned.squares, turned.targets, batch.squares, strict=True):  # type: ignore[arg-type]
        across, down = _how(row, before)
        expected = before[::4, ::4, 0].float()
        expected = expected.flip(1) if across else expected
        assert torch.equal(target, expected.flip(0) if down else expected)
    torch.testing.assert_close(turned.doubles, _own_places(6))


def _how(row: Tensor, before: Tensor) -> tuple[bool, bool]:
    for across in (False, True):
        for down in (False, True):
            turned = before.flip(1) if across else before
            if torch.equal(row, turned.flip(0) if down else turned):
                return across, down
    raise AssertionError("the picture is not its own mirror image")


def test_documents_stay_upright_and_places_that_are_nowhere_stay_nowhere() -> None:
    batch = _batch(3, "document")
    assert batch.doubles is not None
    batch.doubles[:, 0] = -1
    batch.doubles[:, 1] = torch.nan
    turned = mirrored(batch, torch.Generator().manual_seed(1))
    assert turned.squares is not None
    assert turned.doubles is not None
    assert not any(_how(row, before)[1] for row, before in zip(turned.squares, batch.squares, strict=True))  # type: ignore[arg-type]
    assert bool((turned.doubles[:, 0] == -1).all())
    assert bool(turned.doubles[:, 1].isnan().all())
