"""What probability does a score stand for?

A score of 0.9 need not mean that nine in ten such images are forged. A calibration, fitted on held-back images and
stored in the checkpoint with an id, maps scores to probabilities: `temperature` is Platt's scaling of the logit (Guo
et al. 2017, arXiv 1706.04599), `isotonic` a monotone table (Zadrozny and Elkan 2002), read with linear interpolation.
`evidence` weighs what the mask branch saw beside the score: the score itself stays the paper's, while the probability
uses all that the network found out. Where localization was skipped, it falls back to temperature and bias.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from worker.defakerone.errors import CheckpointError

EVIDENCE_WEIGHTS: Final = 4
TOP: Final = 0.005  # share of a mask's cells that make its peak: a region of 0.5 % of the image fills it
LIMIT: Final = 12.0  # larger logits say no more


@dataclass(frozen=True, slots=True)
class MaskEvidence:
    """What a mask says of its image as a whole, in logits."""

    peak: float  # mean of the highest cells, a share TOP
    background: float  # median

    @classmethod
    def of(cls, low_res_logits: npt.NDArray[np.float32]) -> MaskEvidence:
        """Read the mask decoder's logits (S/4, S/4)."""
        cells = np.clip(low_res_logits.ravel(), -LIMIT, LIMIT)
        count = max(1, round(TOP * cells.size))
        return cls(float(np.partition(cells, -count)[-count:].mean()), float(np.median(cells)))


def logit(score: float) -> float:
    """log(s / (1 - s)), finite."""
    clipped = min(max(score, 1e-9), 1 - 1e-9)
    return math.log(clipped / (1 - clipped))


def sigmoid(value: float) -> float:
    """1 / (1 + e^-value), without overflow."""
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Three kinds of map from a score to a probability.

    temperature: p = sigmoid(logit(score) / temperature + bias). isotonic: p by the knots (x, y). evidence:
    p = sigmoid(w0 logit(score) + w1 peak + w2 background + w3), the two logits being those of `MaskEvidence`.
    """

    id: str
    kind: str
    temperature: float = 1.0
    bias: float = 0.0
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        rising = all(a <= b and c <= d for a, b, c, d in zip(self.x, self.x[1:], self.y, self.y[1:], strict=False))
        table = len(self.x) == len(self.y) >= 2 and rising and min(self.y) >= 0 and max(self.y) <= 1
        usable = {"temperature": True, "isotonic": table, "evidence": len(self.weights) == EVIDENCE_WEIGHTS}
        if not usable.get(self.kind, False):
            raise CheckpointError(f"calibration {self.id!r}: kind {self.kind!r} with unusable parameters")
        if self.kind != "isotonic" and not self.temperature > 0:
            raise CheckpointError(f"calibration {self.id!r}: the temperature is {self.temperature}, must be above 0")

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Calibration:
        """Read the `calibration` block of assay.json."""
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """Write the `calibration` block of assay.json."""
        if self.kind != "isotonic":
            plain = {"id": self.id, "kind": self.kind, "temperature": self.temperature, "bias": self.bias}
            return plain | ({"weights": list(self.weights)} if self.weights else {})
        return {"id": self.id, "kind": self.kind, "x": list(self.x), "y": list(self.y)}

    def probability(self, score: float, mask: MaskEvidence | None = None) -> float:
        """Return the calibrated probability that an image of this score, and of this mask, is tampered with."""
        if self.kind == "isotonic":
            return self._interpolate(score)
        if self.kind == "evidence" and mask is not None:
            seen = (logit(score), mask.peak, mask.background, 1.0)
            return sigmoid(sum(weight * value for weight, value in zip(self.weights, seen, strict=True)))
        return sigmoid(logit(score) / self.temperature + self.bias)

    def _interpolate(self, score: float) -> float:
        if score <= self.x[0]:
            return self.y[0]
        if score >= self.x[-1]:
            return self.y[-1]
        right = bisect_right(self.x, score)
        (x0, x1), (y0, y1) = self.x[right - 1 : right + 1], self.y[right - 1 : right + 1]
        return y0 + (y1 - y0) * (score - x0) / (x1 - x0)
