"""Which curves show how a detector errs: its ROC, its reliability, and F1 against the threshold?"""

from dataclasses import dataclass

import numpy as np

from worker.defakerone.evaluation.calibration import BINS, bin_of
from worker.defakerone.evaluation.metrics import Floats, MeasuredImages, mean_f1_curve

ROC_POINTS = 200
"""A ROC curve is thinned to about this many points; its corners at the ends stay."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The images whose probability falls into one bin: how many, their mean probability, and the share of fakes."""

    n: int
    probability: float
    fakes: float


@dataclass(frozen=True, slots=True)
class Curves:
    """Points to draw.

    `roc` is false- and true-positive rates from (0, 0) to (1, 1), None with one class only; `f1` the mean pixel F1 at
    the thresholds k/256, None without masks.
    """

    roc: tuple[list[float], list[float]] | None
    reliability: list[ReliabilityBin]
    f1: list[float] | None


def draw_curves(images: MeasuredImages) -> Curves:
    """Compute all three from a table."""
    f1 = mean_f1_curve(images, np.ones((1, len(images))))[0]
    return Curves(_roc(images), _reliability(images), None if np.isnan(f1).any() else f1.tolist())


def roc_curve(images: MeasuredImages) -> tuple[Floats, Floats]:
    """False- and true-positive rates at every threshold that changes one; needs both classes."""
    order = np.argsort(-images.score, kind="stable")
    score, truth = images.score[order], images.truth[order]
    last_of_ties = np.append(score[1:] != score[:-1], True)
    true, false = np.cumsum(truth)[last_of_ties], np.cumsum(~truth)[last_of_ties]
    return np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1])


def _roc(images: MeasuredImages) -> tuple[list[float], list[float]] | None:
    if images.truth.all() or not images.truth.any():
        return None
    false, true = roc_curve(images)
    kept = np.unique(np.linspace(0, len(false) - 1, min(len(false), ROC_POINTS)).round().astype(int))
    return false[kept].tolist(), true[kept].tolist()


def _reliability(images: MeasuredImages) -> list[ReliabilityBin]:
    bins = bin_of(images.probability)
    members = [bins == number for number in range(BINS)]
    return [
        ReliabilityBin(int(m.sum()), float(images.probability[m].mean()), float(images.truth[m].mean()))
        for m in members
        if m.any()
    ]
