"""How do the mask decoder's logits become a mask, a heat map and regions in the image's own pixels?

Two bilinear steps, decoder size to SAM2's input side, then to the image (design: 6.2): one step would differ at edges.
The mask is where the logit is above 0, which is where the heat map is above 0.5. It is published whatever the verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from worker.defakerone.records import Record

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

EXTENT_NONE: Final = "none"
EXTENT_LOCAL: Final = "local"
EXTENT_WHOLE: Final = "whole"
EXTENT_UNLOCALIZED: Final = "unlocalized"

SPECK: Final = 1e-4  # a smaller share of the image is noise: no region, and alone no extent
WHOLE: Final = 0.9  # from this share on, the whole image is marked
MAX_REGIONS: Final = 32


@dataclass(frozen=True, slots=True)
class Region(Record):
    """One connected part of the mask (8 neighbours)."""

    bbox: tuple[int, int, int, int]  # x, y, width, height in upright pixels
    area_fraction: float  # share of the image's pixels
    mean: float  # heat map inside, 0..1
    max: float

    def to_json(self) -> dict[str, Any]:
        """Return the object that results carry."""
        return {
            "bbox": list(self.bbox),
            "area_fraction": self.area_fraction,
            "mean": self.mean,
            "max": self.max,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Localization:
    """Where, at full size."""

    mask: Bytes  # (height, width), 1 = manipulated
    heatmap: Floats  # (height, width), 0..1
    regions: list[Region]  # largest first
    area_fraction: float
    extent: str


def localize(low_res_logits: Floats, side: int, size: tuple[int, int]) -> Localization:
    """Turn the chosen mask's logits (S/4, S/4) into everything that is published, at `size` = (height, width)."""
    logits = upsample_logits(low_res_logits, side, size)
    mask = (logits > 0).view(np.uint8)
    heatmap = sigmoid(logits)
    area = float(mask.mean())
    return Localization(mask, heatmap, find_regions(mask, heatmap), area, extent_of(area))


def not_localized(size: tuple[int, int]) -> Localization:
    """Say that nobody looked: zeros at full size."""
    return Localization(np.zeros(size, np.uint8), np.zeros(size, np.float32), [], 0.0, EXTENT_UNLOCALIZED)


def upsample_logits(low_res: Floats, side: int, size: tuple[int, int]) -> Floats:
    """Bring logits (S/4, S/4) to (height, width) = `size`, by way of (`side`, `side`); half-pixel centres."""
    height, width = size
    square = cv2.resize(np.ascontiguousarray(low_res), (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.resize(square, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def sigmoid(logits: Floats) -> Floats:
    """Turn logits into probabilities. In place: at 50 MP each copy is 200 MB."""
    # 1 / (1 + e^-x) overflows to the right limit, 0, for very negative x; the warning would be noise.
    with np.errstate(over="ignore"):
        np.exp(np.negative(logits, out=logits), out=logits)
    logits += 1
    return np.reciprocal(logits, out=logits)


def find_regions(mask: Bytes, heatmap: Floats) -> list[Region]:
    """Return the connected parts of a mask, largest first, at most MAX_REGIONS and none smaller than SPECK."""
    left, top, width, height = cv2.boundingRect(mask)  # labelling costs most of all here, so label no empty margin
    inside = np.ascontiguousarray(mask[top : top + height, left : left + width])
    if inside.size == 0:
        return []
    _, found = cv2.connectedComponentsWithAlgorithm(inside, 8, cv2.CV_32S, cv2.CCL_BBDT)
    labels, least = np.asarray(found, dtype=np.int32), SPECK * mask.size
    parts = [_Part.of(labels, outline) for outline in _outlines(inside, least)]
    large = sorted((part for part in parts if part.area >= least), key=lambda part: (-part.area, part.number))
    return [_region(part, labels, (left, top), heatmap) for part in large[:MAX_REGIONS]]


def _outlines(mask: Bytes, least: float) -> list[npt.NDArray[np.int32]]:
    """Return the outer outline of each component that `least` pixels may lie in.

    OpenCV measures components while it labels them, at three times the labelling's own cost; outlines cost a third.
    """
    outlines, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outer = [np.asarray(outlines[int(at)], dtype=np.int32) for at in np.flatnonzero(hierarchy[0, :, 3] < 0)]
    return [outline for outline in outer if (np.ptp(outline, axis=0) + 1).prod() >= least]


@dataclass(frozen=True, slots=True)
class _Part:
    """A component, on the part of the image that was labelled."""

    number: int  # its label
    box: tuple[int, int, int, int]  # x, y, width, height
    area: int

    @classmethod
    def of(cls, labels: npt.NDArray[np.int32], outline: npt.NDArray[np.int32]) -> _Part:
        x, y, width, height = cv2.boundingRect(outline)
        number = int(labels[outline[0, 0, 1], outline[0, 0, 0]])
        area = int(np.count_nonzero(labels[y : y + height, x : x + width] == number))
        return cls(number, (x, y, width, height), area)


def _region(part: _Part, labels: npt.NDArray[np.int32], corner: tuple[int, int], heatmap: Floats) -> Region:
    """Measure one component; `labels` and the part lie on the part of the image that begins at `corner`."""
    x, y, width, height = part.box
    inside = labels[y : y + height, x : x + width] == part.number
    x, y = x + corner[0], y + corner[1]
    heat = heatmap[y : y + height, x : x + width][inside]
    return Region(
        (x, y, width, height), part.area / heatmap.size, float(heat.mean(dtype=np.float64)), float(heat.max())
    )


def extent_of(area_fraction: float) -> str:
    """Name how much of the image a mask of this share marks."""
    if area_fraction < SPECK:
        return EXTENT_NONE
    return EXTENT_WHOLE if area_fraction >= WHOLE else EXTENT_LOCAL
