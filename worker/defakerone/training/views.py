"""How does a synthesised sample become what the mask branch sees?

The product shows SAM2 the whole picture squeezed to a square (design: 3.2). Training may also show a window of that
square: the same pixels at the same scale for a quarter of the arithmetic, and more places to learn from.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from worker.defakerone.training.forgery.journey import Mask
from worker.defakerone.training.forgery.photos import Pixels
from worker.defakerone.training.forgery.synthesis import Sample

CELL = 8  # pixels of a view to one cell of its field of doubles: no coarser than any global attention


@dataclass(frozen=True)
class SquareView:
    """What the mask branch learns from one sample."""

    pixels: Pixels  # (side, side, 3)
    target: npt.NDArray[Any]  # (side / 4, side / 4), share of each cell that is marked
    doubles: npt.NDArray[Any]  # (side / 8, side / 8, 2): where each cell's content also lies, see `find_doubles`
    supervised: bool  # whether the mask says anything about pixels: not for pictures that are generated as a whole


def squeeze(pixels: Pixels, mask: Mask, side: int) -> tuple[Pixels, Mask]:
    """Bring picture and mask to a square exactly as the product does: PIL, bicubic, aspect ratio ignored."""
    square = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
    shrink = mask.shape[0] > side
    return np.asarray(square), cv2.resize(
        mask, (side, side), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    )


def find_doubles(sample: Sample, cells: int) -> npt.NDArray[Any]:
    """Say for each cell of a grid over the picture where its content also lies: x and y as fractions of the picture.

    Both ways: from the copy to its source and back. -1 where it lies nowhere else, nan where that is not known: at
    borders, where the double was covered, and for pictures with several copies.
    """
    nowhere = np.full((cells, cells, 2), -1.0, np.float32)
    if not sample.sources:
        return nowhere
    height, width = sample.mask.shape
    share = cv2.resize(sample.mask, (cells, cells), interpolation=cv2.INTER_AREA) / 255
    if len(sample.sources) > 1:
        return np.full_like(nowhere, np.nan)
    centre = (np.indices((cells, cells))[::-1].transpose(1, 2, 0) + 0.5) / cells * (width, height)
    origin, copy = (_moved(centre, matrix) for matrix in (sample.sources[0], np.linalg.inv(sample.sources[0])))
    covered, was_copied = _marked(sample.mask, origin), _marked(sample.mask, copy)
    field = np.where(was_copied[..., None], copy, nowhere * (width, height))
    field = np.where((share > 0.02)[..., None], np.nan, field)
    field = np.where(((share > 0.9) & ~covered & _inside(origin, width, height))[..., None], origin, field)
    return np.asarray(field / (width, height), np.float32)


def _moved(places: npt.NDArray[Any], matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(places @ matrix[:2, :2].T + matrix[:2, 2])


def _inside(places: npt.NDArray[Any], width: int, height: int) -> npt.NDArray[Any]:
    return np.asarray(((places >= 0) & (places < (width, height))).all(-1))


def _marked(mask: Mask, places: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Whether the mask is set at places; outside the picture it is not."""
    height, width = mask.shape
    column, row = (np.clip(places[..., axis], 0, limit - 1).astype(int) for axis, limit in ((0, width), (1, height)))
    return np.asarray((mask[row, column] > 127) & _inside(places, width, height))


def _window(rng: np.random.Generator, mask: Mask, side: int) -> tuple[int, int]:
    room = mask.shape[0] - side
    left, top = int(rng.integers(room + 1)), int(rng.integers(room + 1))
    places: npt.NDArray[Any] = np.argwhere(mask > 127)
    if len(places) and rng.random() < 0.85:
        y, x = (int(value) for value in places[int(rng.integers(len(places)))])
        left = int(np.clip(x - rng.integers(side // 8, side - side // 8), 0, room))
        top = int(np.clip(y - rng.integers(side // 8, side - side // 8), 0, room))
    return left, top


def square_view(
    rng: np.random.Generator, sample: Sample, side: int, full: int, crop: float, mirror: bool = True
) -> SquareView:
    """Make one view of `side` pixels: with chance `crop` a window of the `full` square, else the whole picture.

    Masks teach documents and natural pictures only, as in the paper: not pictures that are generated as a whole.
    """
    supervised = sample.masked and sample.operation != "whole-resynthesis"
    doubles = find_doubles(sample, side // CELL)
    if side < full and not sample.sources and rng.random() < crop:
        pixels, mask = squeeze(sample.pixels, sample.mask, full)
        left, top = _window(rng, mask, side)
        pixels, mask = pixels[top : top + side, left : left + side], mask[top : top + side, left : left + side]
    else:
        pixels, mask = squeeze(sample.pixels, sample.mask, side)
    if mirror:
        pixels, mask, doubles = turn(rng, pixels, mask, doubles, upright=sample.domain == "document")
    quarter = cv2.resize(np.ascontiguousarray(mask), (side // 4, side // 4), interpolation=cv2.INTER_AREA)
    return SquareView(
        np.ascontiguousarray(pixels), quarter.astype(np.float32) / 255, np.ascontiguousarray(doubles), supervised
    )


def turn(
    rng: np.random.Generator, pixels: Pixels, mask: Mask, doubles: npt.NDArray[Any], *, upright: bool
) -> tuple[Pixels, Mask, npt.NDArray[Any]]:
    """Mirror a square view at random; unless it must stay `upright`, also top to bottom and along its diagonal."""
    alone = doubles < 0  # nan stays nan, and what lies nowhere stays at -1
    if rng.random() < 0.5:
        pixels, mask, alone = pixels[:, ::-1], mask[:, ::-1], alone[:, ::-1]
        doubles = np.abs(doubles[:, ::-1] - np.array([1, 0], np.float32))
    if not upright and rng.random() < 0.5:
        pixels, mask, alone = pixels[::-1], mask[::-1], alone[::-1]
        doubles = np.abs(doubles[::-1] - np.array([0, 1], np.float32))
    if not upright and rng.random() < 0.5:
        pixels, mask, alone = pixels.swapaxes(0, 1), mask.T, alone.swapaxes(0, 1)
        doubles = doubles.swapaxes(0, 1)[..., ::-1]
    return pixels, mask, np.where(alone, np.float32(-1), doubles).astype(np.float32)
