"""Which probability does a score stand for, and which pictures is the model no judge of?

Both are fitted on held-back pictures. The calibration's mathematics is the evaluation's; here are the scores that it is
fitted to. The guard is fitted to verdict states of pictures like those of training.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from worker.defakerone.calibration import Calibration, MaskEvidence
from worker.defakerone.detector import DeFakerOne
from worker.defakerone.evaluation.calibration import CalibrationFit, fit_calibration, fit_evidence
from worker.defakerone.guard import FeatureGuard, Guard
from worker.defakerone.training.forgery.synthesis import Sample

Floats = npt.NDArray[Any]
GUARD_DIRECTIONS, GUARD_QUANTILE, MIN_SIDE = 16, 0.995, 64
CLEAR_GAIN = 0.01  # nats by which masks must improve the probability, or the plain score is preferred


@dataclass(frozen=True)
class Evidence:
    """What the model said of held-back pictures: S_tamper (n,), truth (n,), verdict states (n, d), scenes, masks.

    Pictures made from one photo are one scene.
    """

    scores: Floats
    fake: Floats
    states: Floats
    scenes: tuple[str, ...]
    masks: tuple[MaskEvidence, ...] = ()


def collect(model: DeFakerOne, samples: Iterable[Sample]) -> Evidence:
    """Score samples one by one, as the product does."""
    scores, fake, states, scenes, masks = [], [], [], [], []
    for sample in samples:
        (inference,) = model.infer([model.preprocess(Image.fromarray(sample.pixels))])
        assert inference.low_res_logits is not None  # noqa: S101 - the default settings localize every image
        scores.append(inference.score)
        fake.append(sample.fake)
        states.append(inference.state.astype(np.float64))
        scenes.append(sample.photo_ids[0])
        masks.append(MaskEvidence.of(inference.low_res_logits))
    return Evidence(np.array(scores), np.array(fake, bool), np.stack(states), tuple(scenes), tuple(masks))


def fit_guard(evidence: Evidence) -> Guard:
    """Fit the out-of-domain guard to the states; it refuses one picture in two hundred of this kind."""
    directions = min(GUARD_DIRECTIONS, evidence.states.shape[1], len(evidence.states) - 1)
    feature = FeatureGuard.fit(evidence.states, directions, GUARD_QUANTILE)
    digest = hashlib.sha256(np.ascontiguousarray(evidence.states).tobytes()).hexdigest()[:12]
    return Guard(id=f"guard-{digest}", min_side=MIN_SIDE, feature=feature)


def calibrated(model: DeFakerOne, samples: Iterable[Sample]) -> tuple[DeFakerOne, dict[str, float]]:
    """Return the model with calibration and guard, and what the calibration is worth on scenes held out from it."""
    evidence = collect(model, samples)
    found = fit_calibration(evidence.scores, evidence.fake, evidence.scenes)
    weighed = fit_evidence(evidence.scores, evidence.masks, evidence.fake, evidence.scenes)
    if weighed.loss_after < min(found.loss_after, found.loss_before) - CLEAR_GAIN:  # on scenes held out
        found = weighed
    report = {
        "pictures": float(found.n),
        "ece_before": found.error_before,
        "ece": found.error_after,
        "log_loss_before": found.loss_before,
        "log_loss": found.loss_after,
    }
    return model.with_metadata(calibration=worth_keeping(found), guard=fit_guard(evidence)), report


def worth_keeping(found: CalibrationFit) -> Calibration:
    """Return the fit, or the plain score where the fit says less than it on scenes held out: then it fitted noise."""
    return found.calibration if found.loss_after < found.loss_before else Calibration("identity", "temperature")
