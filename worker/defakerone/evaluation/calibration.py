"""Which map turns held-back scores into probabilities that mean what they say?

`fit_temperature` and `fit_isotonic` give a `Calibration` as a checkpoint stores it; `fit_calibration` takes whichever
predicts better on scenes that it was not fitted to. The maps are monotone: they change no ranking, hence no AUC.
A probability holds for the share of fakes that it was fitted with; `prior` states another share.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.defakerone.calibration import Calibration, MaskEvidence

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Fit = Callable[[Floats, Flags, Floats], Calibration]

BINS = 15
"""Bins of equal width for the expected calibration error, as in Guo et al. 2017, section 2."""
FOLDS = 5
NEWTON_STEPS = 100
SMALLEST_SCORE = 1e-9
"""Scores are kept this far from 0 and 1, as `Calibration` keeps them when it is applied."""


class MisrankedScoresError(ValueError):
    """The scores rank fakes below authentic images; a monotone map can only flatten them."""


@dataclass(frozen=True, slots=True)
class CalibrationFit:
    """A calibration and what it is worth: errors before, and after on scenes held out from the fit.

    `error` is the expected calibration error, `loss` the mean negative log-likelihood in nats; `n` images.
    """

    calibration: Calibration
    n: int
    error_before: float
    error_after: float
    loss_before: float
    loss_after: float


def fit_calibration(
    scores: Sequence[float] | Floats,
    truth: Sequence[bool] | Flags,
    scenes: Sequence[str],
    *,
    prior: float | None = None,
    seed: int = 0,
) -> CalibrationFit:
    """Fit both kinds, keep the one with the smaller held-out loss, and refit it on everything.

    `scores` are S_tamper in [0, 1], `truth` True for fake, `scenes` name what must not be split over folds. Scores that
    say nothing, or the opposite, become one probability for all. Raises ValueError where there is nothing to fit: fewer
    than two scenes of a class.
    """
    score, fake = _checked(scores, truth)
    weights = class_weights(fake, prior)
    folds = _folds(fake, scenes, seed)
    held_out: dict[Fit, Floats] = {fit_isotonic: _cross_predict(fit_isotonic, score, fake, weights, folds)}
    with suppress(MisrankedScoresError):
        fit_temperature(score, fake, weights)
        held_out[fit_temperature] = _cross_predict(fit_temperature, score, fake, weights, folds)
    best = min(held_out, key=lambda fit: log_loss(held_out[fit], fake, weights))
    return CalibrationFit(
        calibration=best(score, fake, weights),
        n=len(score),
        error_before=calibration_error(score, fake, weights),
        error_after=calibration_error(held_out[best], fake, weights),
        loss_before=log_loss(score, fake, weights),
        loss_after=log_loss(held_out[best], fake, weights),
    )


def fit_temperature(scores: Floats, truth: Flags, weights: Floats | None = None) -> Calibration:
    """Temperature and bias of the score's logit that maximise the likelihood (Platt 1999; Guo et al. 2017, 4.2).

    Targets are Platt's (N+ + 1) / (N+ + 2) and 1 / (N- + 2) instead of 1 and 0, so that separable scores do not drive
    the temperature to zero. Raises MisrankedScoresError where higher scores do not make fakes likelier.
    """
    scores, truth = _checked(scores, truth)
    weights = np.ones(len(scores)) if weights is None else weights
    positives, negatives = np.count_nonzero(truth), np.count_nonzero(~truth)
    target = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    slope, bias = _logistic_regression(logits(scores), target, weights)
    if slope <= 0:
        raise MisrankedScoresError("the scores rank fakes below authentic images: no temperature can mend that")
    return _named(Calibration("", "temperature", temperature=1 / slope, bias=bias))


def fit_evidence(
    scores: Floats, masks: Sequence[MaskEvidence], truth: Flags, scenes: Sequence[str], *, seed: int = 0
) -> CalibrationFit:
    """Weigh the score and what the masks say by logistic regression, with a ridge of one on standardised columns.

    The errors before are those of the score alone. Raises ValueError as `fit_calibration` does.
    """
    scores, truth = _checked(scores, truth)
    columns = np.column_stack([logits(scores), [mask.peak for mask in masks], [mask.background for mask in masks]])
    folds, held_out = _folds(truth, scenes, seed), np.zeros(len(scores))
    for fold in np.unique(folds):
        held = folds == fold
        found = _standardised(columns[~held], truth[~held])
        held_out[held] = 1 / (1 + np.exp(-(columns[held] @ found[:-1] + found[-1])))
    alone = fit_calibration(scores, truth, scenes, seed=seed)
    score_only = alone.calibration if alone.calibration.kind == "temperature" else Calibration("", "temperature")
    weights = tuple(float(weight) for weight in _standardised(columns, truth))
    evidence = Calibration("", "evidence", score_only.temperature, score_only.bias, weights=weights)
    ones = np.ones(len(scores))
    return CalibrationFit(
        calibration=_named(evidence),
        n=len(scores),
        error_before=calibration_error(scores, truth),
        error_after=calibration_error(held_out, truth),
        loss_before=log_loss(scores, truth, ones),
        loss_after=log_loss(held_out, truth, ones),
    )


def _standardised(columns: Floats, truth: Flags) -> Floats:
    """Fit on columns of mean 0 and spread 1, and give the weights of the columns as they came."""
    mean, spread = columns.mean(0), columns.std(0) + 1e-6
    found = _logistic_weights((columns - mean) / spread, truth.astype(float), np.ones(len(truth)), ridge=1.0)
    return np.append(found[:-1] / spread, found[-1] - (found[:-1] / spread) @ mean)


def fit_isotonic(scores: Floats, truth: Flags, weights: Floats | None = None) -> Calibration:
    """The monotone table that fits best in the square (Zadrozny and Elkan 2002), by pooling adjacent violators.

    Each pooled block is two knots at its lowest and highest score; between blocks the table is read linearly. Values
    stay 1 / (n + 2) away from 0 and 1: n images cannot prove certainty.
    """
    scores, truth = _checked(scores, truth)
    weights = np.ones(len(scores)) if weights is None else weights
    values, means, mass = _pool_ties(scores, truth, weights)
    blocks = pool_adjacent_violators(means, mass)
    margin = 1 / (len(scores) + 2)
    knots: list[tuple[float, float]] = []
    for start, end, mean in blocks:
        inside = float(np.clip(mean, margin, 1 - margin))
        knots += [(float(values[at]), inside) for at in dict.fromkeys((start, end - 1))]
    if len(knots) == 1:
        knots = [(0.0, knots[0][1]), (1.0, knots[0][1])]
    return _named(Calibration("", "isotonic", x=tuple(x for x, _ in knots), y=tuple(y for _, y in knots)))


def pool_adjacent_violators(means: Floats, mass: Floats) -> list[tuple[int, int, float]]:
    """Weighted isotonic regression (Ayer et al. 1955) of means in order: blocks (start, end, value), values rising."""
    blocks: list[tuple[int, int, float, float]] = []
    for at, (mean, weight) in enumerate(zip(means.tolist(), mass.tolist(), strict=True)):
        block = (at, at + 1, mean, weight)
        while blocks and blocks[-1][2] >= block[2]:
            start, _, before, heavy = blocks.pop()
            total = heavy + block[3]
            block = (start, block[1], (before * heavy + block[2] * block[3]) / total, total)
        blocks.append(block)
    return [(start, end, value) for start, end, value, _ in blocks]


def calibration_error(probability: Floats, truth: Flags, weights: Floats | None = None, bins: int = BINS) -> float:
    """Expected calibration error: the mean over images of their bin's |share of fakes - mean probability|."""
    weights = np.ones(len(probability)) if weights is None else weights
    member = bin_of(probability, bins)
    gap = np.bincount(member, weights * (truth - probability), minlength=bins)
    return float(np.abs(gap).sum() / weights.sum())


def bin_of(probability: Floats, bins: int = BINS) -> NDArray[np.int64]:
    """The bin of equal width that each probability falls into; 1 belongs to the last."""
    return np.minimum((probability * bins).astype(np.int64), bins - 1)


def log_loss(probability: Floats, truth: Flags, weights: Floats | None = None) -> float:
    """Mean negative log-likelihood, in nats."""
    weights = np.ones(len(probability)) if weights is None else weights
    likelihood = np.clip(np.where(truth, probability, 1 - probability), SMALLEST_SCORE, 1.0)
    return float(-(weights * np.log(likelihood)).sum() / weights.sum())


def apply(calibration: Calibration, scores: Floats) -> Floats:
    """The calibrated probability of each score."""
    return np.array([calibration.probability(float(score)) for score in scores], dtype=np.float64)


def class_weights(truth: Flags, prior: float | None) -> Floats:
    """Weights of mean 1 under which fakes have the share `prior`; None keeps the share that there is."""
    if prior is None:
        return np.ones(len(truth))
    if not 0 < prior < 1:
        raise ValueError(f"a prior is a share of fakes between 0 and 1, not {prior}")
    share = truth.mean()
    return np.asarray(np.where(truth, prior / share, (1 - prior) / (1 - share)), dtype=np.float64)


def logits(scores: Floats) -> Floats:
    """log(s / (1 - s)), finite."""
    kept = np.clip(scores, SMALLEST_SCORE, 1 - SMALLEST_SCORE)
    return np.asarray(np.log(kept / (1 - kept)), dtype=np.float64)


def _logistic_regression(x: Floats, target: Floats, weights: Floats) -> tuple[float, float]:
    """Slope and intercept."""
    slope, intercept = _logistic_weights(x[:, None], target, weights, start=1.0)
    return float(slope), float(intercept)


def _logistic_weights(x: Floats, target: Floats, weights: Floats, *, start: float = 0.0, ridge: float = 0.0) -> Floats:
    """Weights of the columns of x (n, k) and the intercept: (k + 1,).

    Newton's method with step halving; the loss is convex, so this is the optimum. `ridge` holds the columns' weights
    near 0, never the intercept.
    """
    features = np.column_stack([x, np.ones(len(x))])
    held = ridge * np.append(np.ones(x.shape[1]), 0.0)

    def loss(at: Floats) -> float:
        z = features @ at
        return float((weights * (np.logaddexp(0, z) - target * z)).sum() + (held * at**2).sum() / 2)

    point = np.append(np.full(x.shape[1], start), 0.0)
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-features @ point))
        gradient = features.T @ (weights * (p - target)) + held * point
        curvature = (features * (weights * p * (1 - p))[:, None]).T @ features + np.diag(held + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        scale = next((s for s in 0.5 ** np.arange(30) if loss(point - s * step) < loss(point)), 0.0)
        point = point - scale * step
        if scale == 0.0 or np.abs(scale * step).max() < 1e-10:
            break
    return np.asarray(point, np.float64)


def _pool_ties(scores: Floats, truth: Flags, weights: Floats) -> tuple[Floats, Floats, Floats]:
    values, index = np.unique(scores, return_inverse=True)
    mass: Floats = np.bincount(index, weights).astype(np.float64)
    return values, np.bincount(index, weights * truth) / mass, mass


def _cross_predict(fit: Fit, score: Floats, fake: Flags, weights: Floats, folds: NDArray[np.int64]) -> Floats:
    predicted = np.zeros(len(score))
    for fold in np.unique(folds):
        held = folds == fold
        predicted[held] = apply(fit(score[~held], fake[~held], weights[~held]), score[held])
    return predicted


def _folds(fake: Flags, scenes: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Deal scenes into folds, those with fakes and those without apart, so that each fold has both."""
    if len(scenes) != len(fake):
        raise ValueError(f"{len(scenes)} scenes for {len(fake)} scores")
    names, scene = np.unique(np.array(scenes), return_inverse=True)
    has_fake = np.bincount(scene, fake) > 0
    order = np.random.default_rng(seed).permutation(len(names))
    dealt = np.zeros(len(names), dtype=np.int64)
    for part in (order[has_fake[order]], order[~has_fake[order]]):
        dealt[part] = np.arange(len(part)) % FOLDS
    folds = dealt[scene]
    for fold in np.unique(folds):
        if len(np.unique(fake[folds != fold])) < 2:
            raise ValueError("calibration needs fakes and authentic images of at least two scenes each")
    return folds


def _checked(scores: Sequence[float] | Floats, truth: Sequence[bool] | Flags) -> tuple[Floats, Flags]:
    score, fake = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=np.bool_)
    if score.shape != fake.shape or score.ndim != 1:
        raise ValueError(f"scores and truths are two columns of one length, not {score.shape} and {fake.shape}")
    if not ((score >= 0) & (score <= 1)).all():
        raise ValueError("a score lies in [0, 1]")
    if fake.all() or not fake.any():
        raise ValueError("a calibration needs both fakes and authentic images")
    return score, fake


def _named(calibration: Calibration) -> Calibration:
    """Give an id made of the kind and a digest of the parameters: equal maps have equal ids."""
    parameters: dict[str, Any] = {name: value for name, value in calibration.to_json().items() if name != "id"}
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()
    return replace(calibration, id=f"{calibration.kind}-{digest[:12]}")
