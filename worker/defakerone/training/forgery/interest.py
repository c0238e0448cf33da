"""Which of several regions would a person bother to change?

People edit what a picture is about: that lies near the middle more often than not (photographers put it there; Tatler
2007) and stands out by its colour (Achanta et al. 2009). Regions drawn anywhere alike would teach that forgeries are
equally likely in every corner of the sky, which nobody's forgeries are.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from worker.defakerone.training.forgery.journey import Mask
from worker.defakerone.training.forgery.photos import Pixels

SIDE = 64
MIDDLE = 0.7
"""Spread of the middle's pull, a standard deviation in halves of a picture's side."""
SHARPNESS = 1.5
"""How strictly the most interesting region wins: chances go with interest to this power."""
FLOOR = 0.2
"""Interest that even a plain corner has."""


def interest(pixels: Pixels) -> Pixels:
    """Map how far each place draws the eye, (64, 64), about 0 to 1.2."""
    small = cv2.cvtColor(cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB)
    soft = cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1.5)
    distinct = np.linalg.norm(soft - soft.mean((0, 1)), axis=-1)
    distinct /= distinct.max() + 1e-3
    axis = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    middle = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * MIDDLE**2))
    return np.asarray(FLOOR + middle * (0.4 + 0.6 * distinct), np.float32)


def pick_region(rng: np.random.Generator, pixels: Pixels, regions: Sequence[Mask]) -> Mask:
    """Pick one of the regions, the more interesting the likelier."""
    drawn = interest(pixels)
    weights = []
    for region in regions:
        share = cv2.resize(region, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        weights.append(float((share * drawn).sum() / (share.sum() + 1e-6)) ** SHARPNESS)
    total = sum(weights)
    chances = [weight / total for weight in weights] if total > 0 else None
    return regions[int(rng.choice(len(regions), p=chances))]


def draw_place(rng: np.random.Generator) -> tuple[float, float]:
    """Draw where a region is put, as fractions of the picture: near the middle more often than not."""
    if rng.random() < 0.4:
        return float(rng.uniform()), float(rng.uniform())
    x, y = np.clip(rng.normal(0.5, 0.2, 2), 0, 1)
    return float(x), float(y)
