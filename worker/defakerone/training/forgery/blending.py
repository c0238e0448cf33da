"""How is a changed region joined with the picture around it: hard, soft, or with matched colour and noise?"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from worker.defakerone.training.forgery.journey import Mask
from worker.defakerone.training.forgery.photos import Pixels

Alpha = npt.NDArray[Any]
"""Opacity of the change, 0 to 1, (height, width)."""


def soften(rng: np.random.Generator, mask: Mask) -> Alpha:
    """Turn a mask into an opacity: hard a third of the time, else feathered by up to three pixels inside the border."""
    alpha = (mask / 255).astype(np.float32)
    if rng.random() < 0.35:
        return alpha
    blurred: Alpha = cv2.GaussianBlur(alpha, (0, 0), float(rng.uniform(0.5, 3.0)))
    return blurred


def composite(background: Pixels, foreground: Pixels, alpha: Alpha) -> Pixels:
    """Lay the foreground over the background."""
    weight = alpha[..., None]
    mixed = background + weight * (foreground.astype(np.float32) - background)
    return np.asarray(np.clip(mixed + 0.5, 0, 255), np.uint8)


def footprint(alpha: Alpha) -> Mask:
    """Mark what the change covers by half or more: the exact mask of a soft edit."""
    return np.asarray(alpha >= 0.5, np.uint8) * 255


def match_colour(donor: Pixels, target: Pixels, strength: float) -> Pixels:
    """Move the donor's mean and spread per channel towards the target's."""
    source, wanted = donor.reshape(-1, 3).astype(np.float32), target.reshape(-1, 3).astype(np.float32)
    spread = (wanted.std(0) + 4) / (source.std(0) + 4)
    moved = (source - source.mean(0)) * spread + wanted.mean(0)
    mixed = source + strength * (moved - source)
    return np.asarray(np.clip(mixed, 0, 255), np.uint8).reshape(donor.shape)


def noise_level(pixels: Pixels) -> float:
    """Estimate the standard deviation of the noise from the median absolute Laplacian-like difference."""
    grey = pixels[..., 1].astype(np.float32)
    residual = grey[1:-1, 1:-1] * 4 - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(np.median(np.abs(residual)) / 0.6745 / np.sqrt(20))


def add_noise(rng: np.random.Generator, pixels: Pixels, level: float) -> Pixels:
    """Add Gaussian noise of `level` (of 255), partly shared by the channels as sensor noise is."""
    shape = pixels.shape[:2]
    noise = rng.standard_normal((*shape, 1), dtype=np.float32) * 0.8 + rng.standard_normal(
        (*shape, 3), dtype=np.float32
    ) * np.float32(0.6)
    return np.asarray(np.clip(pixels + noise * level + 0.5, 0, 255), np.uint8)
