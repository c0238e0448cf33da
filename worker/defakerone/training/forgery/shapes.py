"""Which region does a forger mark? Objects along their outlines, boxes, brush strokes, free shapes.

Every function returns an 8-bit mask (0 or 255) of the asked size.
"""

import cv2
import numpy as np

from worker.defakerone.training.forgery.interest import pick_region
from worker.defakerone.training.forgery.journey import Mask
from worker.defakerone.training.forgery.photos import Pixels

CANDIDATES = 3
"""Regions among which one is picked."""


def pick_fraction(rng: np.random.Generator, low: float = 0.002, high: float = 0.35) -> float:
    """Draw the share of the picture to change: log-uniform around 3-5 %, as in hand-made forgeries."""
    return float(np.clip(np.exp(rng.normal(np.log(0.045), 1.0)), low, high))


def _radial(rng: np.random.Generator, size: tuple[int, int], fraction: float, roughness: float) -> Mask:
    width, height = size
    radius = np.sqrt(fraction * width * height / np.pi)
    stretch = np.exp(rng.uniform(-0.5, 0.5))
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    lengths = np.ones_like(angles)
    for frequency in range(2, 7):
        lengths += roughness / frequency * np.cos(frequency * angles + rng.uniform(0, 2 * np.pi))
    x, y = radius * stretch * lengths * np.cos(angles), radius / stretch * lengths * np.sin(angles)
    turn = rng.uniform(0, np.pi)
    x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    centre = rng.uniform(0.12, 0.88) * width, rng.uniform(0.12, 0.88) * height
    points = np.stack([x + centre[0], y + centre[1]], axis=1).astype(np.int32)
    return np.asarray(cv2.fillPoly(np.zeros((height, width), np.uint8), [points], 255))


def blob(rng: np.random.Generator, size: tuple[int, int], fraction: float) -> Mask:
    """Draw a smooth free shape."""
    return _radial(rng, size, fraction, rng.uniform(0.15, 0.7))


def ellipse(rng: np.random.Generator, size: tuple[int, int], fraction: float) -> Mask:
    """Draw a tilted ellipse."""
    return _radial(rng, size, fraction, 0.0)


def rectangle(rng: np.random.Generator, size: tuple[int, int], fraction: float) -> Mask:
    """Draw an upright rectangle."""
    width, height = size
    stretch = np.exp(rng.uniform(-0.7, 0.7))
    side = np.sqrt(fraction * width * height)
    w, h = int(min(side * stretch, 0.9 * width)) + 2, int(min(side / stretch, 0.9 * height)) + 2
    left, top = int(rng.integers(0, max(1, width - w))), int(rng.integers(0, max(1, height - h)))
    mask = np.zeros((height, width), np.uint8)
    mask[top : top + h, left : left + w] = 255
    return mask


def strokes(rng: np.random.Generator, size: tuple[int, int], fraction: float) -> Mask:
    """Draw brush strokes, as an inpainting or healing brush leaves them."""
    width, height = size
    mask = np.zeros((height, width), np.uint8)
    thickness = max(3, int(np.sqrt(fraction * width * height) * rng.uniform(0.25, 0.5)))
    point = rng.uniform(0.15, 0.85, 2) * size
    heading = rng.uniform(0, 2 * np.pi)
    for _ in range(40):
        heading += rng.normal(0, 0.6)
        onward = point + thickness * 0.8 * np.array([np.cos(heading), np.sin(heading)])
        cv2.line(mask, tuple(int(v) for v in point), tuple(int(v) for v in onward), 255, thickness)
        point = np.clip(onward, 0, np.array(size) - 1)
        if mask.mean() / 255 >= fraction:
            break
    return mask


def outlined(rng: np.random.Generator, pixels: Pixels, fraction: float) -> Mask:
    """Find a region of about `fraction` of the picture whose border follows the picture's own edges (a watershed)."""
    height, width = pixels.shape[:2]
    small = cv2.resize(pixels, (128, 128), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), 1.0)
    markers = np.zeros((128, 128), np.int32)
    count = int(np.clip(1.2 / fraction, 6, 90))
    seeds = rng.integers(2, 126, (count, 2))
    markers[seeds[:, 1], seeds[:, 0]] = np.arange(1, count + 1)
    cv2.watershed(small, markers)
    areas = np.bincount(markers[markers > 0], minlength=count + 1)
    first = int(np.argmin(np.abs(np.log((areas[1:] + 1) / (fraction * 128 * 128))))) + 1
    chosen = (markers == first).astype(np.uint8)
    chosen = cv2.morphologyEx(chosen, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    grown = cv2.resize(chosen * 255, (width, height), interpolation=cv2.INTER_LINEAR)
    blur = max(width, height) / 128
    return (cv2.GaussianBlur(grown, (0, 0), blur) > 127).astype(np.uint8) * 255


def draw_region(rng: np.random.Generator, pixels: Pixels, fraction: float | None = None) -> Mask:
    """Draw one region to manipulate in a picture, of several the one worth it; never empty, never all of it."""
    share = pick_fraction(rng) if fraction is None else fraction
    return pick_region(rng, pixels, [_region(rng, pixels, share) for _ in range(CANDIDATES)])


def _region(rng: np.random.Generator, pixels: Pixels, share: float) -> Mask:
    size = pixels.shape[1], pixels.shape[0]
    kind = rng.random()
    if kind < 0.45:
        mask = outlined(rng, pixels, share)
    elif kind < 0.65:
        mask = blob(rng, size, share)
    elif kind < 0.78:
        mask = ellipse(rng, size, share)
    elif kind < 0.9:
        mask = rectangle(rng, size, share)
    else:
        mask = strokes(rng, size, share)
    if not 0.0008 <= mask.mean() / 255 <= 0.6:
        return ellipse(rng, size, min(max(share, 0.004), 0.3))
    return mask


def bounds(mask: Mask) -> tuple[int, int, int, int]:
    """Give (left, top, width, height) of what is marked; the mask must not be empty."""
    left, top, width, height = cv2.boundingRect(mask)
    return int(left), int(top), int(width), int(height)
