"""Which probability does a score stand for, and which pictures is the model no judge of?

Both are fitted on held-back pictures: half of the validation split fits, the other half says what the fit is worth.
Platt's scaling and the isotonic table compete; the one with the lower log loss under cross-fitting wins. The guard is
fitted to verdict states of pictures like those of training.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy.optimize import minimize

from worker.defakerone.calibration import Calibration
from worker.defakerone.detector import DeFakerOne
from worker.defakerone.guard import FeatureGuard, Guard
from worker.defakerone.training.forgery.synthesis import Sample

Floats = npt.NDArray[Any]
GUARD_DIRECTIONS, GUARD_QUANTILE, MIN_SIDE = 16, 0.995, 64


@dataclass(frozen=True)
class Evidence:
    """What the model said of held-back pictures: S_tamper (n,), truth (n,), verdict states (n, d)."""

    scores: Floats
    fake: Floats
    states: Floats


@torch.inference_mode()
def collect(model: DeFakerOne, samples: Iterable[Sample]) -> Evidence:
    """Score samples one by one, as the product does, without the mask branch."""
    network, words = model.network, list(model.word_ids)
    scores, fake, states = [], [], []
    for sample in samples:
        prepared = model.preprocess(Image.fromarray(sample.pixels))
        tiles = len(prepared.tiles_u8)
        ids = torch.tensor([model.prompt.ids(tiles, suffix=False)], device=model.device)
        hidden = network.run_language(ids, network.embed_tiles(prepared.pixel_values.to(model.device)))
        state = hidden[0, model.prompt.verdict_position(tiles)].float()
        chances = (network.lm_head.weight[words].float() @ state).softmax(0)
        scores.append(float(chances[:4].sum()))
        fake.append(sample.fake)
        states.append(state.cpu().numpy().astype(np.float64))
    return Evidence(np.array(scores), np.array(fake, bool), np.stack(states))


def fit_platt(scores: Floats, fake: Floats) -> Calibration:
    """Fit p = sigmoid(logit(score) / temperature + bias) by maximum likelihood with Platt's smoothed targets."""
    logits = _logit(scores)
    positives, negatives = int(fake.sum()), int((~fake).sum())
    target = np.where(fake, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(values: Floats) -> float:
        z = logits * np.exp(values[0]) + values[1]
        return float(np.mean(np.logaddexp(0, z) - target * z))

    log_slope, bias = minimize(loss, np.zeros(2), method="Nelder-Mead").x
    slope = float(np.clip(np.exp(log_slope), 1e-3, 1e3))
    return _named(Calibration("", "temperature", temperature=1 / slope, bias=float(bias)))


def fit_isotonic(scores: Floats, fake: Floats) -> Calibration:
    """Fit a monotone table by pooling adjacent violators, with one pseudo-picture of each class at either end."""
    order = np.argsort(scores, kind="stable")
    x = np.concatenate([[0.0], scores[order], [1.0]])
    y = np.concatenate([[0.0], fake[order].astype(float), [1.0]])
    blocks: list[list[float]] = []
    for place, value in zip(x, y, strict=True):
        blocks.append([place, place, value, 1.0])
        while len(blocks) > 1 and blocks[-2][2] >= blocks[-1][2]:
            last = blocks.pop()
            weight = blocks[-1][3] + last[3]
            mean = (blocks[-1][2] * blocks[-1][3] + last[2] * last[3]) / weight
            blocks[-1] = [blocks[-1][0], last[1], mean, weight]
    knots = [(end, block[2]) for block in blocks for end in dict.fromkeys((block[0], block[1]))]
    table = Calibration(
        "", "isotonic", x=tuple(k[0] for k in knots), y=tuple(float(np.clip(k[1], 0, 1)) for k in knots)
    )
    return _named(table)


def fit(evidence: Evidence) -> Calibration:
    """Choose between the two by log loss under two-fold cross-fitting, and fit the winner to all."""
    if evidence.fake.all() or not evidence.fake.any():
        raise ValueError("calibration needs authentic and forged pictures; the held-back ones are all of one kind")
    half = np.arange(len(evidence.scores)) % 2 == 0
    losses = []
    for method in (fit_platt, fit_isotonic):
        folds = [
            log_loss(method(evidence.scores[fold], evidence.fake[fold]), evidence.scores[~fold], evidence.fake[~fold])
            for fold in (half, ~half)
        ]
        losses.append(float(np.mean(folds)))
    method = fit_platt if losses[0] <= losses[1] else fit_isotonic
    return method(evidence.scores, evidence.fake)


def fit_guard(evidence: Evidence) -> Guard:
    """Fit the out-of-domain guard to the states; it refuses one picture in two hundred of this kind."""
    directions = min(GUARD_DIRECTIONS, evidence.states.shape[1], len(evidence.states) - 1)
    feature = FeatureGuard.fit(evidence.states, directions, GUARD_QUANTILE)
    digest = hashlib.sha256(np.ascontiguousarray(evidence.states).tobytes()).hexdigest()[:12]
    return Guard(id=f"guard-{digest}", min_side=MIN_SIDE, feature=feature)


def log_loss(calibration: Calibration, scores: Floats, fake: Floats) -> float:
    """Mean negative log likelihood."""
    chance = np.clip([calibration.probability(float(score)) for score in scores], 1e-6, 1 - 1e-6)
    return float(-np.mean(np.where(fake, np.log(chance), np.log1p(-chance))))


def expected_error(calibration: Calibration, scores: Floats, fake: Floats, bins: int = 10) -> float:
    """Expected calibration error of the probability of `fake`, over equal-width bins."""
    chance = np.array([calibration.probability(float(score)) for score in scores])
    which = np.minimum((chance * bins).astype(int), bins - 1)
    gaps = [abs(chance[which == b].mean() - fake[which == b].mean()) * (which == b).mean() for b in np.unique(which)]
    return float(np.sum(gaps))


def calibrated(model: DeFakerOne, samples: Iterable[Sample]) -> tuple[DeFakerOne, dict[str, float]]:
    """Return the model with calibration and guard, and what they are worth on the half that did not fit them."""
    evidence = collect(model, samples)
    half = np.arange(len(evidence.scores)) % 2 == 0
    fitting = Evidence(evidence.scores[half], evidence.fake[half], evidence.states[half])
    calibration = fit(fitting)
    report = {
        "pictures": float((~half).sum()),
        "ece": expected_error(calibration, evidence.scores[~half], evidence.fake[~half]),
        "log_loss": log_loss(calibration, evidence.scores[~half], evidence.fake[~half]),
    }
    return model.with_metadata(calibration=calibration, guard=fit_guard(fitting)), report


def _logit(scores: Floats) -> Floats:
    clipped = np.clip(scores, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _named(calibration: Calibration) -> Calibration:
    content = {key: value for key, value in calibration.to_json().items() if key != "id"}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
    return Calibration.from_json({**content, "id": f"{calibration.kind}-{digest}"})
