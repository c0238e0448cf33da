"""What is said about an image, and with which reservations?

S_tamper is the share of the affirmative words in the softmax over the paper's eight answer words at the first answer
token; from 0.5 on the label is `fake` (design: 7). The label follows the score alone. Mask, calibration and guard may
disagree with it, and then the reasons say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from worker.defakerone.calibration import Calibration, MaskEvidence
from worker.defakerone.errors import InferenceError
from worker.defakerone.guard import TOO_SMALL, Guard
from worker.defakerone.localization import EXTENT_NONE, Bytes, Floats, Localization, Region, localize, not_localized
from worker.defakerone.prompt import AFFIRMATIVE
from worker.defakerone.records import Record

THRESHOLD: Final = 0.5  # fixed by the paper
MIN_SIDE: Final = 32  # pixels; below it, hardly any trace of editing can be there
CONFLICT_AREA: Final = 0.01  # an authentic image should not have a larger share marked

FAKE: Final = "fake"
AUTHENTIC: Final = "authentic"
INCONCLUSIVE: Final = "inconclusive"

MASK_VERDICT_CONFLICT: Final = "mask_verdict_conflict"
LOCALIZATION_SKIPPED: Final = "localization_skipped"
CALIBRATION_DISAGREES: Final = "calibration_disagrees"


@dataclass(frozen=True, slots=True, eq=False)
class Inference:
    """What the network said about one image, on the CPU, before any interpretation."""

    word_logits: npt.NDArray[np.float32]  # (8,), affirmative first
    state: npt.NDArray[np.float32]  # (dim,), the language model's state at the verdict position
    low_res_logits: Floats | None  # (S/4, S/4); None where localization was skipped

    @property
    def score(self) -> float:
        """S_tamper, 0..1."""
        return tamper_score(self.word_logits)


@dataclass(frozen=True, slots=True, eq=False)
class Detection(Record):
    """What is published about one image. Mask and heat map have the upright image's own size."""

    score: float  # S_tamper, 0..1; not a probability
    probability: float | None  # None without a calibration
    label: str  # authentic | fake | inconclusive
    mask: Bytes  # (height, width), 1 = manipulated
    heatmap: Floats  # (height, width), 0..1
    regions: list[Region]  # largest first
    area_fraction: float  # share of the mask
    extent: str  # none | local | whole | unlocalized
    reasons: list[str]  # reservations, empty where there are none
    calibration_id: str | None

    @property
    def mask_verdict_conflict(self) -> bool:
        """Whether verdict and mask contradict each other."""
        return MASK_VERDICT_CONFLICT in self.reasons

    def to_json(self) -> dict[str, Any]:
        """Return everything but the pixels."""
        return {
            "score": self.score,
            "probability": self.probability,
            "calibration_id": self.calibration_id,
            "label": self.label,
            "reasons": self.reasons,
            "area_fraction": self.area_fraction,
            "extent": self.extent,
            "mask_verdict_conflict": self.mask_verdict_conflict,
            "regions": [region.to_json() for region in self.regions],
        }


def tamper_score(word_logits: npt.NDArray[np.float32]) -> float:
    """Return S_tamper from the eight words' logits, affirmative first; raises InferenceError where one is no number."""
    logits = word_logits.astype(np.float64)
    if not np.isfinite(logits).all():
        raise InferenceError("the network answered with a number that is not finite; try float32 or other weights")
    weights = np.exp(logits - logits.max())
    return float(weights[: len(AFFIRMATIVE)].sum() / weights.sum())


def conclude(
    inference: Inference,
    size: tuple[int, int],
    side: int,
    calibration: Calibration | None,
    guard: Guard | None,
) -> Detection:
    """Interpret one inference for an image of `size` (height, width); `side` is SAM2's input side."""
    score = inference.score
    logits = inference.low_res_logits
    where = not_localized(size) if logits is None else localize(logits, side, size)
    seen = None if logits is None else MaskEvidence.of(logits)
    probability = None if calibration is None else calibration.probability(score, seen)
    objections = [] if guard is None else guard.objections(size, score, inference.state.astype(np.float64))
    reservations = _reservations(score, probability, where, size, logits is None)
    return Detection(
        score=score,
        probability=probability,
        label=INCONCLUSIVE if objections else label_of(score),
        mask=where.mask,
        heatmap=where.heatmap,
        regions=where.regions,
        area_fraction=where.area_fraction,
        extent=where.extent,
        reasons=list(dict.fromkeys([*objections, *reservations])),
        calibration_id=None if calibration is None else calibration.id,
    )


def label_of(score: float) -> str:
    """Apply the paper's threshold."""
    return FAKE if score >= THRESHOLD else AUTHENTIC


def _reservations(
    score: float, probability: float | None, where: Localization, size: tuple[int, int], skipped: bool
) -> list[str]:
    fake = score >= THRESHOLD
    unsupported = where.extent == EXTENT_NONE if fake else where.area_fraction >= CONFLICT_AREA
    holds = {
        TOO_SMALL: min(size) < MIN_SIDE,
        MASK_VERDICT_CONFLICT: unsupported,
        LOCALIZATION_SKIPPED: skipped,
        CALIBRATION_DISAGREES: probability is not None and (probability >= THRESHOLD) != fake,
    }
    return [reason for reason, true in holds.items() if true]
