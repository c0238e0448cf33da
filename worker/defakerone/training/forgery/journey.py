"""What do platforms do to a picture after it was made, forged or not?

Every step is applied alike to authentic and forged pictures, so that recompression, resizing and screenshots are
never the cue. Masks follow the geometry; a mask is 0 or 255 before and after.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from worker.defakerone.training.forgery.photos import Pixels

Mask = npt.NDArray[Any]
"""0 untouched, 255 manipulated, (height, width)."""
Matrix = npt.NDArray[Any]
"""A 3 x 3 transform from the picture before a step to the picture after it, in pixel coordinates."""

SUBSAMPLING = (
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
)
INTERPOLATIONS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)


def compress_jpeg(pixels: Pixels, quality: int, sampling: int = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420) -> Pixels:
    """Encode as JPEG and decode again."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], flags)
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1])


def compress_webp(pixels: Pixels, quality: int) -> Pixels:
    """Encode as lossy WebP and decode again."""
    _, data = cv2.imencode(".webp", pixels[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1])


def random_jpeg(rng: np.random.Generator, pixels: Pixels, low: int = 50, high: int = 99) -> Pixels:
    """Compress at a random quality (high ones more often, as on the web) with a random chroma subsampling."""
    quality = int(low + (high - low) * rng.beta(2.0, 1.2))
    return compress_jpeg(pixels, quality, SUBSAMPLING[int(rng.integers(len(SUBSAMPLING)))])


def resize_both(pixels: Pixels, mask: Mask, size: tuple[int, int], interpolation: int) -> tuple[Pixels, Mask, Matrix]:
    """Resize picture and mask to `size` (width, height)."""
    height, width = mask.shape
    scale = np.diag([size[0] / width, size[1] / height, 1.0])
    small = cv2.resize(mask, size, interpolation=cv2.INTER_AREA if size[0] < width else cv2.INTER_LINEAR)
    return cv2.resize(pixels, size, interpolation=interpolation), (small > 127).astype(np.uint8) * 255, scale


def _resize(rng: np.random.Generator, pixels: Pixels, mask: Mask) -> tuple[Pixels, Mask, Matrix]:
    height, width = mask.shape
    factor = rng.uniform(0.55, 1.0) if rng.random() < 0.8 else rng.uniform(1.0, 1.3)
    size = max(96, round(width * factor)), max(96, round(height * factor))
    return resize_both(pixels, mask, size, INTERPOLATIONS[int(rng.integers(len(INTERPOLATIONS)))])


def _crop(rng: np.random.Generator, pixels: Pixels, mask: Mask) -> tuple[Pixels, Mask, Matrix]:
    height, width = mask.shape
    left, right = (int(width * rng.uniform(0, 0.08)) for _ in range(2))
    top, bottom = (int(height * rng.uniform(0, 0.08)) for _ in range(2))
    window = (slice(top, height - bottom), slice(left, width - right))
    shift = np.array([[1.0, 0.0, -left], [0.0, 1.0, -top], [0.0, 0.0, 1.0]])
    return np.ascontiguousarray(pixels[window]), np.ascontiguousarray(mask[window]), shift


def _tone(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    gain, offset = rng.uniform(0.85, 1.15), rng.uniform(-12, 12)
    table = np.clip(np.arange(256) * gain + offset, 0, 255).astype(np.uint8)
    toned: Pixels = cv2.LUT(pixels, table)
    return toned


def _screenshot(rng: np.random.Generator, pixels: Pixels, mask: Mask) -> tuple[Pixels, Mask, Matrix]:
    height, width = mask.shape
    factor = rng.uniform(0.7, 1.15)
    size = max(96, round(width * factor)), max(96, round(height * factor))
    shown, masked, scale = resize_both(pixels, mask, size, cv2.INTER_LINEAR)
    levels = 255 * (np.arange(256) / 255) ** rng.uniform(0.93, 1.07)
    return cv2.LUT(shown, levels.astype(np.uint8)), masked, scale


def _pixels_only(step: Callable[[np.random.Generator, Pixels], Pixels]) -> "Step":
    def applied(rng: np.random.Generator, pixels: Pixels, mask: Mask) -> tuple[Pixels, Mask, Matrix]:
        return step(rng, pixels), mask, np.eye(3)

    return applied


Step = Callable[[np.random.Generator, Pixels, Mask], tuple[Pixels, Mask, Matrix]]
STEPS: tuple[tuple[float, Step], ...] = (
    (0.30, _pixels_only(random_jpeg)),
    (0.10, _pixels_only(lambda rng, pixels: compress_webp(pixels, int(rng.integers(45, 96))))),
    (0.25, _resize),
    (0.15, _crop),
    (0.08, _pixels_only(_tone)),
    (0.12, _screenshot),
)


def travel(rng: np.random.Generator, pixels: Pixels, mask: Mask) -> tuple[Pixels, Mask, Matrix]:
    """Send a picture through none to three random steps and, most of the time, one last compression.

    More than a third of all pictures stay uncompressed after the edit, as lossless uploads do: what little a small
    model can see of an edit has to be seen somewhere before it can be recognised under compression.
    """
    weights = np.array([weight for weight, _ in STEPS])
    path = np.eye(3)
    for _ in range(int(rng.choice(4, p=(0.55, 0.28, 0.12, 0.05)))):
        step = STEPS[int(rng.choice(len(STEPS), p=weights / weights.sum()))][1]
        pixels, mask, moved = step(rng, pixels, mask)
        path = moved @ path
    if rng.random() < 0.62:
        pixels = random_jpeg(rng, pixels, 60, 100)
    return pixels, mask, path
