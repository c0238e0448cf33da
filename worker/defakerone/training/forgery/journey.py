"""What do platforms do to a picture after it was made, forged or not?

Every step is applied alike to authentic and forged pictures, so that recompression, resizing and screenshots are
never the cue. Masks follow the geometry; a mask is 0 or 255 before and after.
"""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

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
_LUMA = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    *(17, 18, 24, 47, 99, 99, 99, 99),
    *(18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99),
    *(99,) * 32,
)
STANDARD_TABLES = (_LUMA, _CHROMA)
"""Quantisation steps of ITU-T T.81, annex K, row by row."""
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


def editor_tables(rng: np.random.Generator, quality: int) -> list[list[int]]:
    """Make quantisation tables that are not libjpeg's: flatter towards high frequencies, as editors' and cameras'."""
    scale = (5000 / quality if quality < 50 else 200 - 2 * quality) / 100
    flatness = rng.uniform(0.3, 1.0)
    return [_flatten(table, scale, flatness) for table in STANDARD_TABLES]


def _flatten(table: tuple[int, ...], scale: float, flatness: float) -> list[int]:
    steep = np.array(table, np.float64)
    flat = steep.min() * (steep / steep.min()) ** flatness
    return [int(step) for step in np.clip(np.round(flat * scale), 1, 255)]


def compress_as_editor(rng: np.random.Generator, pixels: Pixels, quality: int) -> Pixels:
    """Encode as JPEG with an editor's tables, two times of three with full chroma, and decode again."""
    data = BytesIO()
    tables, sampling = editor_tables(rng, quality), (0, 0, 2)[int(rng.integers(3))]
    Image.fromarray(pixels).save(data, "JPEG", qtables=tables, subsampling=sampling)
    return np.asarray(Image.open(data))


def random_jpeg(rng: np.random.Generator, pixels: Pixels, low: int = 50, high: int = 99) -> Pixels:
    """Compress at a random quality (high ones more often, as on the web) with a random chroma subsampling."""
    quality = int(low + (high - low) * rng.beta(2.0, 1.2))
    if rng.random() < 0.25:
        return compress_as_editor(rng, pixels, quality)
    return compress_jpeg(pixels, quality, SUBSAMPLING[int(rng.integers(len(SUBSAMPLING)))])


def sharpen(pixels: Pixels, amount: float, sigma: float) -> Pixels:
    """Mask unsharply: add `amount` of what a blur of `sigma` pixels takes away."""
    blurred = cv2.GaussianBlur(pixels, (0, 0), sigma)
    return np.asarray(cv2.addWeighted(pixels, 1 + amount, blurred, -amount, 0))


def resize_both(pixels: Pixels, mask: Mask, size: tuple[int, int], interpolation: int) -> tuple[Pixels, Mask, Matrix]:
    """Resize picture and mask to `size` (width, height)."""
    height, width = mask.shape
    scale = np.diag([size[0] / width, size[1] / height, 1.0])
    small = cv2.resize(mask, size, interpolation=cv2.INTER_AREA if size[0] < width else cv2.INTER_LINEAR)
    return cv2.resize(pixels, size, interpolation=interpolation), (small > 127).astype(np.uint8) * 255, scale


def _resize(rng: np.random.Generator, pixels: Pixels, mask: Mask) -> tuple[Pixels, Mask, Matrix]:
    height, width = mask.shape
    factor = rng.uniform(0.45, 1.0) if rng.random() < 0.8 else rng.uniform(1.0, 1.3)
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


def _polish(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Sharpen the whole picture or lay fine grain over it, as the last touch in an editor."""
    if rng.random() < 0.4:
        grain = rng.standard_normal((*pixels.shape[:2], 1), dtype=np.float32) * np.float32(rng.uniform(0.5, 3.0))
        return np.asarray(np.clip(pixels + grain + 0.5, 0, 255), np.uint8)
    return sharpen(pixels, float(rng.uniform(0.2, 1.2)), float(rng.uniform(0.5, 1.5)))


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
    (0.08, _pixels_only(_polish)),
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
