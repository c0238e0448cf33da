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
    """Turn a mask into an opacity: hard, antialiased or feathered by a few pixels, or faded in as a soft brush does."""
    alpha = (mask / 255).astype(np.float32)
    kind = rng.random()
    if kind < 0.3:
        return alpha
    if kind < 0.8:
        blurred: Alpha = cv2.GaussianBlur(alpha, (0, 0), float(rng.uniform(0.5, 3.0)))
        return blurred
    return _fade(_depth(mask), float(rng.uniform(4.0, 16.0)))


def _depth(mask: Mask) -> npt.NDArray[Any]:
    """Say how many pixels each place lies inside the border; where the picture's edge cuts a region, there is none."""
    framed = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.distanceTransform(framed, cv2.DIST_L2, 3)[1:-1, 1:-1])


def _fade(depth: npt.NDArray[Any], reach: float) -> Alpha:
    """Let opacity grow over `reach` pixels inside the border, less in a narrow region, so that its middle is opaque."""
    share = np.clip(depth / max(1.0, min(reach, 0.6 * float(depth.max()))), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


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
    return _match(donor, donor.reshape(-1, 3), target.reshape(-1, 3), strength)


def match_surroundings(donor: Pixels, target: Pixels, mask: Mask, strength: float) -> Pixels:
    """Move the colours that the donor shows inside the mask towards those around it in the target.

    That is how a person judges a match. With nothing around, the whole target counts.
    """
    side = max(5, int(0.3 * np.sqrt(np.count_nonzero(mask))) | 1)
    ring = cv2.dilate(mask, np.ones((side, side), np.uint8)) & ~mask
    around = target[ring > 0] if np.count_nonzero(ring) > 60 else target.reshape(-1, 3)
    return _match(donor, donor[mask > 0], around, strength)


def _match(donor: Pixels, source: npt.NDArray[Any], wanted: npt.NDArray[Any], strength: float) -> Pixels:
    spread = np.clip((wanted.std(0) + 4) / (source.std(0) + 4), 0.4, 2.5)
    gain = 1 + strength * (spread - 1)
    offset = strength * (wanted.mean(0) - source.mean(0) * spread)
    return np.asarray(np.clip(donor * gain.astype(np.float32) + offset.astype(np.float32), 0, 255), np.uint8)


def blend_bands(background: Pixels, foreground: Pixels, mask: Mask, levels: int = 4) -> Pixels:
    """Blend each band of frequencies over its own width inside the mask: fine texture sharply, coarse colours widely.

    The idea of Burt and Adelson (1983), without reducing the coarse bands.
    """
    difference, depth = foreground.astype(np.float32) - background, _depth(mask)
    mixed = np.zeros_like(difference)
    for level in range(levels):
        softer = cv2.GaussianBlur(difference, (0, 0), 1.5 * 2**level)
        mixed += _fade(depth, 2.0**level)[..., None] * (difference - softer)
        difference = np.asarray(softer, np.float32)
    mixed += _fade(depth, 2.0**levels)[..., None] * difference
    return np.asarray(np.clip(background + mixed + 0.5, 0, 255), np.uint8)


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
