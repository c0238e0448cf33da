"""What probability does a score stand for?

A score of 0.9 need not mean that nine in ten such images are forged. A calibration, fitted on held-back images and
stored in the checkpoint with an id, maps scores to probabilities: `temperature` is Platt's scaling of the logit (Guo
et al. 2017, arXiv 1706.04599), `isotonic` a monotone table (Zadrozny and Elkan 2002), read with linear interpolation.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

from worker.defakerone.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Calibration:
    """`kind` temperature: p = sigmoid(logit(score) / temperature + bias). `kind` isotonic: p by the knots (x, y)."""

    id: str
    kind: str
    temperature: float = 1.0
    bias: float = 0.0
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        rising = all(a <= b and c <= d for a, b, c, d in zip(self.x, self.x[1:], self.y, self.y[1:], strict=False))
        table = len(self.x) == len(self.y) >= 2 and rising and min(self.y) >= 0 and max(self.y) <= 1
        if self.kind not in ("temperature", "isotonic") or (self.kind == "isotonic" and not table):
            raise CheckpointError(f"calibration {self.id!r}: kind {self.kind!r} with unusable parameters")
        if self.kind == "temperature" and not self.temperature > 0:
            raise CheckpointError(f"calibration {self.id!r}: the temperature is {self.temperature}, must be above 0")

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Calibration:
        """Read the `calibration` block of assay.json."""
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """Write the `calibration` block of assay.json."""
        if self.kind == "temperature":
            return {"id": self.id, "kind": self.kind, "temperature": self.temperature, "bias": self.bias}
        return {"id": self.id, "kind": self.kind, "x": list(self.x), "y": list(self.y)}

    def probability(self, score: float) -> float:
        """Return the calibrated probability that an image of this score is tampered with."""
        if self.kind == "temperature":
            clipped = min(max(score, 1e-9), 1 - 1e-9)
            logit = math.log(clipped / (1 - clipped)) / self.temperature + self.bias
            return 1 / (1 + math.exp(-logit))
        return self._interpolate(score)

    def _interpolate(self, score: float) -> float:
        if score <= self.x[0]:
            return self.y[0]
        if score >= self.x[-1]:
            return self.y[-1]
        right = bisect_right(self.x, score)
        (x0, x1), (y0, y1) = self.x[right - 1 : right + 1], self.y[right - 1 : right + 1]
        return y0 + (y1 - y0) * (score - x0) / (x1 - x0)
