"""What is fitted while training: a guard that knows its own kind, and a calibration only where it helps."""

import numpy as np
import pytest

from worker.defakerone.evaluation.calibration import fit_calibration
from worker.defakerone.training.calibrate import Evidence, fit_guard, worth_keeping

SEED = 11


def _evidence(count: int) -> Evidence:
    rng = np.random.default_rng(SEED)
    states = rng.normal(0, 1, (count, 24))
    return Evidence(rng.random(count), rng.random(count) < 0.5, states, tuple(map(str, range(count))))


def test_the_guard_lets_its_own_kind_pass_and_refuses_what_is_far_away() -> None:
    evidence = _evidence(2000)
    guard = fit_guard(evidence)
    fresh = np.random.default_rng(SEED + 1).normal(0, 1, (500, 24))
    refused = [bool(guard.objections((200, 200), 0.9, state)) for state in fresh]
    assert np.mean(refused) < 0.03
    assert guard.objections((200, 200), 0.9, np.full(24, 9.0)) == ["out_of_domain"]
    assert guard.objections((20, 200), 0.9, fresh[0])[0] == "too_small"


def test_a_calibration_is_kept_only_where_it_says_more_than_the_score() -> None:
    rng = np.random.default_rng(SEED)
    logits = rng.normal(0, 4, 600)
    scenes = [str(number) for number in range(600)]
    boastful = 1 / (1 + np.exp(-logits))
    fake = rng.random(600) < 1 / (1 + np.exp(-logits / 3))
    assert worth_keeping(fit_calibration(boastful, fake, scenes)).id != "identity"
    honest = 1 / (1 + np.exp(-logits / 3))
    few = slice(0, 40)  # too few to find anything but noise in scores that are right already
    found = fit_calibration(honest[few], fake[few], scenes[few])
    kept = worth_keeping(found)
    assert (kept.id == "identity") == (found.loss_after >= found.loss_before)
    assert kept.id != "identity" or kept.probability(0.37) == pytest.approx(0.37)
