"""What was found out about one image, and how do many of these make the table that metrics are computed on?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from worker.defakerone.evaluation.localization import THRESHOLDS, Localization, measure_localization, predicted_area
from worker.defakerone.evaluation.metrics import MeasuredImages
from worker.defakerone.evaluation.predictors import Prediction
from worker.defakerone.manifest import Entry

Mask = NDArray[np.uint8] | None


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is measured of one image: the part that a cache keeps.

    `width` and `height` are those of the image that was judged, upright. `area` is the share of its pixels at or above
    0.5. `localization` is None for images without a mask and for authentic ones.
    """

    width: int
    height: int
    score: float
    probability: float | None
    verdict: str | None
    area: float
    localization: Localization | None

    def to_json(self) -> dict[str, Any]:
        """The measurement as JSON; floats survive exactly."""
        found = self.localization
        row = {name: getattr(self, name) for name in ("width", "height", "score", "probability", "verdict", "area")}
        return row | {"localization": None if found is None else {"f1": found.f1.tolist(), "auc": found.auc}}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Self:
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError on anything else."""
        found = row.pop("localization")
        curve = None if found is None else np.array(found["f1"], dtype=np.float64)
        if curve is not None and curve.shape != THRESHOLDS.shape:
            raise ValueError(f"a curve of {curve.shape} thresholds instead of {THRESHOLDS.shape}")
        return cls(**row, localization=None if curve is None else Localization(curve, found["auc"]))


@dataclass(frozen=True, slots=True)
class ImageResult:
    """A measurement and the line of the manifest that it belongs to."""

    entry: Entry
    measured: Measurement


def measure(entry: Entry, mask: Mask, prediction: Prediction) -> Measurement:
    """Compare a prediction with what the manifest says of the image; raises ValueError on an impossible heat map."""
    height, width = prediction.heatmap.shape
    compared = entry.is_fake and mask is not None
    return Measurement(
        width=width,
        height=height,
        score=_unit("score", prediction.score),
        probability=None if prediction.probability is None else _unit("probability", prediction.probability),
        verdict=prediction.label,
        area=predicted_area(prediction.heatmap),
        localization=measure_localization(prediction.heatmap, mask) if compared and mask is not None else None,
    )


def tabulate(results: Sequence[ImageResult]) -> MeasuredImages:
    """Turn results into columns; data sets and scenes become codes, and a scene never spans data sets."""
    measured = [result.measured for result in results]
    sources = [result.entry.source for result in results]
    scenes = [(result.entry.source, result.entry.scene) for result in results]
    curves = np.full((len(results), len(THRESHOLDS)), np.nan)
    for row, one in enumerate(measured):
        if one.localization is not None:
            curves[row] = one.localization.f1
    return MeasuredImages(
        truth=np.array([result.entry.is_fake for result in results], dtype=np.bool_),
        score=np.array([one.score for one in measured], dtype=np.float64),
        probability=np.array([_probability(one) for one in measured], dtype=np.float64),
        abstained=np.array([one.verdict == "inconclusive" for one in measured], dtype=np.bool_),
        data_set=_codes(sources),
        scene=_codes(scenes),
        pixel_f1=curves,
        pixel_auc=np.array([_auc(one) for one in measured], dtype=np.float64),
        false_area=np.array(
            [np.nan if result.entry.is_fake else result.measured.area for result in results], dtype=np.float64
        ),
    )


def _probability(one: Measurement) -> float:
    return one.score if one.probability is None else one.probability


def _auc(one: Measurement) -> float:
    return np.nan if one.localization is None or one.localization.auc is None else one.localization.auc


def _codes(names: Sequence[Any]) -> NDArray[np.int64]:
    code = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([code[name] for name in names], dtype=np.int64)


def _unit(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"a {name} lies in [0, 1], not {value}")
    return float(value)
