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

PAIRS = 24


@dataclass(frozen=True)
class SquareView:
    """What the mask branch learns from one sample."""

    pixels: Pixels  # (side, side, 3)
    target: npt.NDArray[Any]  # (side / 4, side / 4), share of each cell that is marked
    pairs: npt.NDArray[Any]  # (n, 4): a copied place and its source, x y x' y' as fractions of the view
    supervised: bool  # whether the mask says anything about pixels: not for pictures that are generated as a whole


def squeeze(pixels: Pixels, mask: Mask, side: int) -> tuple[Pixels, Mask]:
    """Bring picture and mask to a square exactly as the product does: PIL, bicubic, aspect ratio ignored."""
    square = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
    shrink = mask.shape[0] > side
    return np.asarray(square), cv2.resize(
        mask, (side, side), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    )


def copied_pairs(rng: np.random.Generator, sample: Sample, count: int = PAIRS) -> npt.NDArray[Any]:
    """Draw places inside the mask with the places they were copied from, both ways, as fractions of the picture."""
    if len(sample.sources) != 1 or not sample.mask.any():  # with several copies a place does not tell which one it is
        return np.zeros((0, 4), np.float32)
    height, width = sample.mask.shape
    marked = np.argwhere(sample.mask > 0)
    places = marked[rng.integers(len(marked), size=count)][:, ::-1] + 0.5
    homogeneous = np.concatenate([places, np.ones((count, 1))], axis=1)
    origin = (homogeneous @ sample.sources[0].T)[:, :2]
    pairs = np.concatenate([places, origin], axis=1) / np.array([width, height, width, height])
    pairs = pairs[((pairs > 0) & (pairs < 1)).all(1)]
    return np.concatenate([pairs, pairs[:, [2, 3, 0, 1]]]).astype(np.float32)


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
    pairs = copied_pairs(rng, sample)
    if side < full and not sample.sources and rng.random() < crop:
        pixels, mask = squeeze(sample.pixels, sample.mask, full)
        left, top = _window(rng, mask, side)
        pixels, mask = pixels[top : top + side, left : left + side], mask[top : top + side, left : left + side]
    else:
        pixels, mask = squeeze(sample.pixels, sample.mask, side)
    if mirror and rng.random() < 0.5:
        pixels, mask, pairs = pixels[:, ::-1], mask[:, ::-1], np.abs(pairs - np.array([1, 0, 1, 0], np.float32))
    quarter = cv2.resize(np.ascontiguousarray(mask), (side // 4, side // 4), interpolation=cv2.INTER_AREA)
    return SquareView(
        np.ascontiguousarray(pixels), quarter.astype(np.float32) / 255, pairs.astype(np.float32), supervised
    )
