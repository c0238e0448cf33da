"""The guard that is fitted while training: it knows its own kind."""

import numpy as np

from worker.defakerone.training.calibrate import Evidence, fit_guard

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
