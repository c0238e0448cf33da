"""Which images show best what a detector can do and where it fails, and how do they look?"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.defakerone.evaluation.predictors import HeatMap, Predictor
from worker.defakerone.evaluation.results import ImageResult
from worker.defakerone.evaluation.runner import predict_again
from worker.defakerone.samples import Sample

CASES = 6
SIDE = 360
"""Longer side of a picture in the report, pixels."""
OUTLINE = (0, 229, 255)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Case:
    """One image of a report: its pictures as data URIs, and what they show. `truth` is None without a mask."""

    name: str
    caption: str
    picture: str
    truth: str | None
    heat: str


def choose_cases(results: Sequence[ImageResult], count: int = CASES) -> dict[str, list[ImageResult]]:
    """The most telling images of each kind, at most `count`, no image twice within a kind."""
    located = sorted((r for r in results if r.measured.localization), key=lambda r: (-_f1(r), r.entry.id))
    by_score = sorted(results, key=lambda r: (r.measured.score, r.entry.id))
    half = min(count, len(located) // 2) or min(count, len(located))
    return {
        "Found best": located[:half],
        "Found worst": located[::-1][: min(half, len(located) - half)],
        "Missed: fakes with the lowest scores": [r for r in by_score if r.entry.is_fake][:count],
        "False alarms: authentic images with the highest scores": [r for r in by_score[::-1] if not r.entry.is_fake][
            :count
        ],
    }


def draw_cases(chosen: Mapping[str, Sequence[ImageResult]], predictor: Predictor) -> Iterator[tuple[str, list[Case]]]:
    """Judge the chosen images once more and draw them; kinds without an image are left out."""
    for title, results in chosen.items():
        again = predict_again([result.entry for result in results], predictor)
        cases = [
            _draw(result, sample, prediction.heatmap)
            for result, (sample, prediction) in zip(results, again, strict=True)
        ]
        if cases:
            yield title, cases


def _draw(result: ImageResult, sample: Sample, heatmap: HeatMap) -> Case:
    scale = min(1.0, SIDE / max(sample.image.size))
    size = (max(1, round(sample.image.width * scale)), max(1, round(sample.image.height * scale)))
    picture = np.asarray(sample.image.resize(size, Image.Resampling.LANCZOS))
    masked = result.measured.localization is not None and sample.mask is not None
    return Case(
        name=f"{result.entry.id} · {result.entry.source}",
        caption=_caption(result),
        picture=_data_uri(picture),
        truth=_data_uri(outlined(picture, sample.mask)) if masked and sample.mask is not None else None,
        heat=_data_uri(glowing(picture, heatmap)),
    )


def outlined(picture: Pixels, mask: NDArray[np.uint8]) -> Pixels:
    """The picture darkened outside the manipulated region, whose border is drawn."""
    height, width = picture.shape[:2]
    small = (cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0.25).astype(np.uint8)
    drawn = np.where(small[..., None] > 0, picture, picture // 3).astype(np.uint8)
    borders, _ = cv2.findContours(small, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.ascontiguousarray(drawn), borders, -1, OUTLINE, 2), dtype=np.uint8)


def glowing(picture: Pixels, heatmap: HeatMap) -> Pixels:
    """The grey picture under its heat map: dark 0, violet 0.3, orange 0.7, yellow 1."""
    height, width = picture.shape[:2]
    heat = cv2.resize(heatmap, (width, height), interpolation=cv2.INTER_AREA)
    colour = cv2.applyColorMap(np.rint(heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    grey = picture.mean(axis=2, keepdims=True)
    return np.asarray(np.clip(0.35 * grey + 0.65 * colour, 0, 255), dtype=np.uint8)


def _caption(result: ImageResult) -> str:
    found, measured = result.measured.localization, result.measured
    said = f"score {measured.score:.2f}" + ("" if measured.verdict is None else f", {measured.verdict}")
    where = "" if found is None else f" · F1 {found.f1_at_half:.2f} at 0.5, {found.f1.max():.2f} at best"
    truth = result.entry.operation if result.entry.is_fake else "authentic"
    return f"{truth} · {said}{where} · {measured.area:.1%} marked"


def _f1(result: ImageResult) -> float:
    found = result.measured.localization
    return -1.0 if found is None else found.f1_at_half


def _data_uri(pixels: Pixels) -> str:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
