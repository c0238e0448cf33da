"""When is an image too unlike the training images for the verdict to mean anything?

A checkpoint may carry a guard. Where it objects, the label is `inconclusive` and the reason says why; score and mask
are given all the same. It looks at three things: the shorter side, the score's distance from the threshold, and how far
the language model's verdict state lies from those of the training images (a Mahalanobis distance in the leading
principal directions, the rest pooled into one; Lee et al. 2018, arXiv 1807.03888).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from worker.defakerone.errors import CheckpointError

TOO_SMALL: Final = "too_small"
UNCERTAIN_SCORE: Final = "uncertain_score"
OUT_OF_DOMAIN: Final = "out_of_domain"

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FeatureGuard:
    """How verdict states of training images are spread: k leading directions of d, and what remains."""

    mean: Vector  # (d,)
    directions: Vector  # (k, d), orthonormal rows
    scales: Vector  # (k,), standard deviations along them
    residual_scale: float  # root mean square length of what the directions leave over
    max_distance: float

    def distance(self, state: Vector) -> float:
        """Return the distance of a verdict state (d,) in standard deviations."""
        centred = state - self.mean
        along = self.directions @ centred
        residual = centred - self.directions.T @ along
        return float(np.hypot(np.linalg.norm(along / self.scales), np.linalg.norm(residual) / self.residual_scale))

    def refuses(self, state: Vector) -> bool:
        """Say whether a verdict state lies outside what the guard was fitted to."""
        return self.distance(state) > self.max_distance

    @classmethod
    def fit(cls, states: Vector, directions: int, quantile: float) -> FeatureGuard:
        """Fit to verdict states (n, d) of in-domain images; a share 1 - `quantile` of them will be refused."""
        mean = states.mean(axis=0)
        _, singular, rows = np.linalg.svd(states - mean, full_matrices=False)
        scales = np.maximum(singular[:directions] / np.sqrt(len(states)), 1e-6)
        kept = rows[:directions]
        residual = (states - mean) - (states - mean) @ kept.T @ kept
        rest = max(float(np.sqrt((residual**2).sum(axis=1).mean())), 1e-6)
        guard = cls(mean, kept, scales, rest, float("inf"))
        limit = float(np.quantile([guard.distance(state) for state in states], quantile))
        return cls(mean, kept, scales, rest, limit)


@dataclass(frozen=True, slots=True)
class Guard:
    """What a checkpoint refuses to judge. Everything is optional; an empty guard objects to nothing."""

    id: str
    min_side: int = 0  # pixels
    uncertain: tuple[float, float] | None = None  # scores within [low, high] are undecided
    feature: FeatureGuard | None = None

    def objections(self, size: tuple[int, int], score: float, state: Vector | None) -> list[str]:
        """Return the reasons against a verdict on an image of `size` (height, width); empty where there are none."""
        undecided = self.uncertain is not None and self.uncertain[0] <= score <= self.uncertain[1]
        strange = self.feature is not None and state is not None and self.feature.refuses(state)
        found = {TOO_SMALL: min(size) < self.min_side, UNCERTAIN_SCORE: undecided, OUT_OF_DOMAIN: strange}
        return [reason for reason, holds in found.items() if holds]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Guard:
        """Read the `guard` block of assay.json; raises CheckpointError."""
        try:
            feature = data.get("feature")
            uncertain = data.get("uncertain")
            return cls(
                id=str(data["id"]),
                min_side=int(data.get("min_side", 0)),
                uncertain=None if uncertain is None else (float(uncertain[0]), float(uncertain[1])),
                feature=None if feature is None else _feature_from_json(feature),
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise CheckpointError(f"assay.json: unusable guard ({error})") from error

    def to_json(self) -> dict[str, Any]:
        """Write the `guard` block of assay.json."""
        return {
            "id": self.id,
            "min_side": self.min_side,
            "uncertain": None if self.uncertain is None else list(self.uncertain),
            "feature": None if self.feature is None else _feature_to_json(self.feature),
        }


def _feature_from_json(data: dict[str, Any]) -> FeatureGuard:
    mean, directions, scales = (np.asarray(data[key], dtype=np.float64) for key in ("mean", "directions", "scales"))
    if directions.shape != (len(scales), len(mean)) or not (scales > 0).all():
        raise ValueError(f"feature: directions {directions.shape} do not fit mean {mean.shape}, scales {scales.shape}")
    return FeatureGuard(mean, directions, scales, float(data["residual_scale"]), float(data["max_distance"]))


def _feature_to_json(feature: FeatureGuard) -> dict[str, Any]:
    return {
        "mean": _rounded(feature.mean),
        "directions": [_rounded(row) for row in feature.directions],
        "scales": _rounded(feature.scales),
        "residual_scale": feature.residual_scale,
        "max_distance": feature.max_distance,
    }


def _rounded(values: Vector) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
