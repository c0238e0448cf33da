"""Calibration: scores that exaggerate become honest probabilities, whichever method wins."""

from itertools import pairwise

import numpy as np
import pytest

from worker.defakerone.training.calibrate import (
    Evidence,
    expected_error,
    fit,
    fit_guard,
    fit_isotonic,
    fit_platt,
    log_loss,
)

SEED = 11


def _overconfident(count: int) -> Evidence:
    """Pictures whose true log-odds are a third of what the score claims, plus an offset."""
    rng = np.random.default_rng(SEED)
    logits = rng.normal(0, 4, count)
    fake = rng.random(count) < 1 / (1 + np.exp(-(logits / 3 + 0.5)))
    return Evidence(1 / (1 + np.exp(-logits)), fake, rng.normal(0, 1, (count, 24)))


def test_platt_scaling_finds_the_temperature_that_made_the_scores() -> None:
    evidence = _overconfident(20_000)
    found = fit_platt(evidence.scores, evidence.fake)
    assert found.temperature == pytest.approx(3.0, rel=0.05)
    assert found.bias == pytest.approx(0.5, abs=0.05)


def test_both_methods_bring_the_calibration_error_down_on_other_pictures() -> None:
    evidence = _overconfident(4000)
    fitting, other = slice(0, 2000), slice(2000, 4000)
    before = float(np.mean(np.abs(evidence.scores[other] - evidence.fake[other])))
    assert before > 0.2
    for method in (fit_platt, fit_isotonic):
        calibration = method(evidence.scores[fitting], evidence.fake[fitting])
        assert expected_error(calibration, evidence.scores[other], evidence.fake[other]) < 0.05


def test_the_isotonic_table_never_falls() -> None:
    evidence = _overconfident(500)
    table = fit_isotonic(evidence.scores, evidence.fake)
    chances = [table.probability(score) for score in np.linspace(0, 1, 400)]
    assert all(a <= b + 1e-12 for a, b in pairwise(chances))


def test_the_better_method_is_chosen_and_named_by_its_content() -> None:
    evidence = _overconfident(1000)
    chosen = fit(evidence)
    rivals = [method(evidence.scores, evidence.fake) for method in (fit_platt, fit_isotonic)]
    assert chosen.id in {rival.id for rival in rivals}
    assert chosen.id == fit(evidence).id
    assert log_loss(chosen, evidence.scores, evidence.fake) < 0.65


def test_pictures_of_one_kind_cannot_calibrate() -> None:
    evidence = _overconfident(50)
    with pytest.raises(ValueError, match="all of one kind"):
        fit(Evidence(evidence.scores, np.ones(50, bool), evidence.states))


def test_the_guard_lets_its_own_kind_pass_and_refuses_what_is_far_away() -> None:
    evidence = _overconfident(2000)
    guard = fit_guard(evidence)
    fresh = np.random.default_rng(SEED + 1).normal(0, 1, (500, 24))
    refused = [bool(guard.objections((200, 200), 0.9, state)) for state in fresh]
    assert np.mean(refused) < 0.03
    assert guard.objections((200, 200), 0.9, np.full(24, 9.0)) == ["out_of_domain"]
    assert guard.objections((20, 200), 0.9, fresh[0])[0] == "too_small"
