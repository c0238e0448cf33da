"""Which traces should a small model know before it looks for forgeries?

Pretraining from scratch has to replace what the paper's model inherits. Here every pixel says how it was processed:
how much it was blurred, how noisy it is, how far it was resampled, how hard it was compressed, whether it was drawn
again. A window shows two regions with two different histories, so that the same pictures also teach where histories
differ; a share of them shows one history alone, as an authentic picture does, and so teaches whether any differ.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from worker.defakerone.training.forgery.blending import add_noise, composite
from worker.defakerone.training.forgery.journey import SUBSAMPLING, Mask, compress_jpeg, sharpen
from worker.defakerone.training.forgery.photos import PhotoLibrary, Pixels
from worker.defakerone.training.forgery.resynthesis import draw_again
from worker.defakerone.training.forgery.scenes import draw_scene
from worker.defakerone.training.forgery.shapes import blob, ellipse, rectangle

TRACES = ("blur", "noise", "resampling", "compression", "redrawn", "sharpening")


@dataclass(frozen=True)
class TraceSample:
    """A window, the region with the second history if any, and each history's strength of each trace (0 to about 1)."""

    pixels: Pixels  # (side, side, 3)
    mask: Mask  # (side, side)
    inside: npt.NDArray[Any]  # (len(TRACES),)
    outside: npt.NDArray[Any]  # (len(TRACES),)

    def strengths(self, share: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Spread the two histories over a grid: `share` (h, w) of each cell that is inside; gives (traces, h, w)."""
        spread = self.outside[:, None, None] * (1 - share) + self.inside[:, None, None] * share
        return np.asarray(spread, np.float32)


CHANCES = (0.2, 0.2, 0.2, 0.25, 0.05, 0.1)
"""How often each trace is left, in the order of TRACES."""


def process(rng: np.random.Generator, pixels: Pixels, redraw: bool = True) -> tuple[Pixels, npt.NDArray[Any]]:
    """Put a window through one to two random processes and say which and how strong."""
    strength = np.zeros(len(TRACES), np.float32)
    chances = np.array(CHANCES)
    if not redraw:
        chances[TRACES.index("redrawn")] = 0
    for _ in range(1 if rng.random() < 0.6 else 2):
        kind = int(rng.choice(len(TRACES), p=chances / chances.sum()))
        level = float(rng.uniform(0.1, 1.0))
        strength[kind] = max(strength[kind], level)
        pixels = _apply(rng, pixels, kind, level)
    return pixels, strength


def _apply(rng: np.random.Generator, pixels: Pixels, kind: int, level: float) -> Pixels:
    if kind == 0:
        return np.asarray(cv2.GaussianBlur(pixels, (0, 0), 0.35 + 2.2 * level))
    if kind == 1:
        return add_noise(rng, pixels, 12 * level)
    if kind == 2:
        return _resample(rng, pixels, 1 + 1.5 * level)
    if kind == 3:
        return compress_jpeg(pixels, int(98 - 58 * level), SUBSAMPLING[int(rng.integers(len(SUBSAMPLING)))])
    if kind == 4:
        return draw_again(rng, pixels)
    return sharpen(pixels, 2.5 * level, 1.2)


def _resample(rng: np.random.Generator, pixels: Pixels, factor: float) -> Pixels:
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), float(rng.normal(0, 8)), factor)
    how = (cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.integers(2))]
    return np.asarray(cv2.warpAffine(pixels, matrix, (width, height), flags=how, borderMode=cv2.BORDER_REFLECT))


PROCESSED_ALONE = 0.75
"""Chance that a window with one history was processed: about the share of the other windows' area that was.

Traces as such must not tell the two kinds of windows apart, only that they differ within one.
"""


def draw_traces(rng: np.random.Generator, library: PhotoLibrary, side: int, authentic: float = 0.0) -> TraceSample:
    """Draw one window, with chance `authentic` of one history, otherwise of two.

    Often the second region also shows another picture; a third of all windows end with one light compression.
    """
    if authentic and rng.random() < authentic:
        return _one_history(rng, library, side)
    window = _cut_any(rng, library, side)
    other = _cut(rng, library, "nature", side) if rng.random() < 0.5 else window
    shape = (blob, ellipse, rectangle)[int(rng.integers(3))]
    mask = shape(rng, (side, side), float(rng.uniform(0.04, 0.4)))
    outside, outside_strength = window, np.zeros(len(TRACES), np.float32)
    if rng.random() < 0.5:
        outside, outside_strength = process(rng, window)
    inside, inside_strength = process(rng, other)
    alpha = (mask / 255).astype(np.float32)
    if rng.random() < 0.5:
        alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), float(rng.uniform(0.5, 2))))
    pixels = _finish(rng, composite(outside, inside, alpha))
    return TraceSample(pixels, mask, inside_strength, outside_strength)


def _one_history(rng: np.random.Generator, library: PhotoLibrary, side: int) -> TraceSample:
    window = _cut_any(rng, library, side)
    strength = np.zeros(len(TRACES), np.float32)
    if rng.random() < PROCESSED_ALONE:
        window, strength = process(rng, window, redraw=False)  # what is drawn again as a whole is a forgery
    return TraceSample(_finish(rng, window), np.zeros((side, side), np.uint8), strength, strength)


def _cut_any(rng: np.random.Generator, library: PhotoLibrary, side: int) -> Pixels:
    return _cut(rng, library, "document" if rng.random() < 0.15 else "nature", side)


def _cut(rng: np.random.Generator, library: PhotoLibrary, domain: str, side: int) -> Pixels:
    pixels = draw_scene(rng, library, domain, (side, side)).pixels
    return np.asarray(cv2.resize(pixels, (side, side))) if pixels.shape[:2] != (side, side) else pixels


def _finish(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    return compress_jpeg(pixels, int(rng.integers(75, 100))) if rng.random() < 0.33 else pixels
