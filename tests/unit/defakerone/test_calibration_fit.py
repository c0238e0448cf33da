"""Fitting calibrations: against SciPy, against known truths, and what is refused."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize, special

from worker.defakerone.calibration import LIMIT, Calibration, MaskEvidence
from worker.defakerone.errors import CheckpointError
from worker.defakerone.evaluation.calibration import (
    MisrankedScoresError,
    apply,
    calibration_error,
    class_weights,
    fit_calibration,
    fit_evidence,
    fit_isotonic,
    fit_temperature,
    log_loss,
    logits,
    pool_adjacent_violators,
)
from worker.defakerone.metadata import Metadata

Array = np.ndarray[Any, Any]


def drawn(seed: int, n: int, slope: float, bias: float) -> tuple[Array, Array]:
    """Scores whose true probability of fake is sigmoid(slope * logit(score) + bias)."""
    random = np.random.default_rng(seed)
    scores = special.expit(random.normal(0, 2, n))
    return scores, random.random(n) < special.expit(slope * special.logit(scores) + bias)


def test_temperature_and_bias_come_back_from_data_made_with_them() -> None:
    scores, truth = drawn(1, 40_000, slope=0.4, bias=-0.7)
    fitted = fit_temperature(scores, truth)
    assert fitted.temperature == pytest.approx(2.5, rel=0.03)
    assert fitted.bias == pytest.approx(-0.7, abs=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_the_temperature_is_the_optimum_that_scipy_finds(seed: int) -> None:
    scores, truth = drawn(seed, 300, slope=1.7, bias=0.3)
    weights = np.random.default_rng(seed).random(300) + 0.1
    n, p = np.count_nonzero(~truth), np.count_nonzero(truth)
    target = np.where(truth, (p + 1) / (p + 2), 1 / (n + 2))

    def loss(at: Array) -> float:
        q = special.expit(at[0] * logits(scores) + at[1])
        return float(-(weights * (special.xlogy(target, q) + special.xlogy(1 - target, 1 - q))).sum())

    best = optimize.minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
    fitted = fit_temperature(scores, truth, weights)
    assert [1 / fitted.temperature, fitted.bias] == pytest.approx(best.x, abs=1e-5)


@given(
    hnp.arrays(float, st.shared(st.integers(1, 20), key="n"), elements=st.floats(0, 1)),
    hnp.arrays(float, st.shared(st.integers(1, 20), key="n"), elements=st.floats(0.1, 5)),
)
def test_pooling_adjacent_violators_is_isotonic_regression(means: Array, mass: Array) -> None:
    blocks = pool_adjacent_violators(means, mass)
    fitted = np.concatenate([np.full(end - start, value) for start, end, value in blocks])
    assert fitted == pytest.approx(optimize.isotonic_regression(means, weights=mass).x, abs=1e-9)
    assert [value for _, _, value in blocks] == sorted({value for _, _, value in blocks})


@settings(max_examples=25)
@given(st.integers(0, 1000), st.floats(0.2, 3), st.floats(-2, 2))
def test_a_calibration_never_changes_the_ranking_and_stays_inside_0_and_1(seed: int, slope: float, bias: float) -> None:
    scores, truth = drawn(seed, 400, slope, bias)
    for fit in (fit_temperature, fit_isotonic):
        probability = apply(fit(scores, truth), np.sort(scores))
        assert (np.diff(probability) >= -1e-12).all()
        assert 0 < probability.min() <= probability.max() < 1
        ends = apply(fit(scores, truth), np.array([0.0, 1.0]))
        assert 0 <= ends[0] <= probability.min()
        assert probability.max() <= ends[1] <= 1


def test_miscalibrated_scores_become_calibrated_on_images_not_fitted_to() -> None:
    scores, truth = drawn(3, 4000, slope=0.3, bias=0.5)
    new_scores, new_truth = drawn(4, 4000, slope=0.3, bias=0.5)
    assert calibration_error(new_scores, new_truth) > 0.15
    for fit in (fit_temperature, fit_isotonic):
        assert calibration_error(apply(fit(scores, truth), new_scores), new_truth) < 0.04


def test_the_better_kind_is_chosen_by_scenes_held_out() -> None:
    scores, truth = drawn(5, 600, slope=0.5, bias=0.2)
    chosen = fit_calibration(scores.tolist(), truth.tolist(), [f"s{i // 2}" for i in range(600)])
    assert chosen.calibration.kind == "temperature"
    assert chosen.loss_after < chosen.loss_before
    assert chosen.error_after < chosen.error_before
    # A step that no temperature can follow.
    random = np.random.default_rng(6)
    scores = random.random(4000)
    truth = random.random(4000) < np.where((scores > 0.2) & (scores < 0.9), 0.5, np.where(scores >= 0.9, 0.95, 0.02))
    assert fit_calibration(scores, truth, [str(i) for i in range(4000)]).calibration.kind == "isotonic"


def test_a_stated_prior_moves_the_probabilities_to_that_share_of_fakes() -> None:
    scores, truth = drawn(7, 20_000, slope=1.0, bias=0.0)
    weights = class_weights(truth, 0.1)
    assert np.average(truth, weights=weights) == pytest.approx(0.1)
    assert weights.mean() == pytest.approx(1)
    probability = apply(fit_temperature(scores, truth, weights), scores)
    assert np.average(probability, weights=weights) == pytest.approx(0.1, abs=0.005)
    assert calibration_error(probability, truth, weights) < 0.02


def test_separable_scores_give_a_finite_temperature_and_no_certainty() -> None:
    scores, truth = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9]), np.array([False] * 3 + [True] * 3)
    fitted = fit_temperature(scores, truth)
    assert 0.05 < fitted.temperature < 5
    table = fit_isotonic(scores, truth)
    assert table.probability(0.0) == pytest.approx(1 / 8)
    assert table.probability(1.0) == pytest.approx(7 / 8)
    assert table.probability(0.5) == pytest.approx(0.5)


def test_scores_that_say_nothing_become_one_probability() -> None:
    table = fit_isotonic(np.array([0.5, 0.5, 0.5]), np.array([True, False, False]))
    assert table.probability(0.1) == table.probability(0.9) == pytest.approx(1 / 3)


def test_the_error_is_that_of_its_definition() -> None:
    probability = np.array([0.05, 0.05, 0.95, 1.0])
    truth = np.array([False, True, True, True])
    assert calibration_error(probability, truth) == pytest.approx((2 * abs(0.5 - 0.05) + 2 * abs(1 - 0.975)) / 4)
    assert calibration_error(truth.astype(float), truth) == 0
    assert log_loss(np.array([0.25, 0.5]), np.array([True, False])) == pytest.approx(np.log(8) / 2)


def test_a_fit_is_stored_in_a_checkpoint_and_read_back_with_its_id(tmp_path: Any) -> None:
    scores, truth = drawn(8, 200, slope=0.8, bias=0.1)
    for fit in (fit_temperature, fit_isotonic):
        fitted = fit(scores, truth)
        assert fitted == fit(scores, truth)
        assert fitted.id.startswith(fitted.kind + "-")
        Metadata(calibration=fitted).write(tmp_path)
        read = Metadata.read(tmp_path).calibration
        assert read is not None
        assert read == fitted
        assert apply(read, scores).tolist() == apply(fitted, scores).tolist()
        assert Calibration.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted
    assert fit_temperature(scores, truth).id != fit_temperature(scores**2, truth).id


@pytest.mark.parametrize(
    ("scores", "truth", "says"),
    [
        ([0.1, 0.9], [True], "one length"),
        ([0.1, 1.9], [True, False], r"\[0, 1\]"),
        ([0.1, float("nan")], [True, False], r"\[0, 1\]"),
        ([0.1, 0.9], [True, True], "both fakes and authentic"),
        ([0.1, 0.9], [True, False], "at least two scenes each"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(scores: list[float], truth: list[bool], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        fit_calibration(scores, truth, [str(i) for i in range(len(scores))])


def test_scores_that_rank_the_wrong_way_round_have_no_temperature_and_become_nearly_one_probability() -> None:
    scores, truth = drawn(9, 500, slope=1.0, bias=0.0)
    with pytest.raises(MisrankedScoresError, match="rank fakes below"):
        fit_temperature(1 - scores, truth)
    flat = fit_calibration(1 - scores, truth, [str(i) for i in range(500)]).calibration
    assert flat.probability(0.9) - flat.probability(0.1) < 0.1
    with pytest.raises(ValueError, match="between 0 and 1"):
        class_weights(truth, 1.0)


def test_what_the_masks_say_is_weighed_with_the_score_and_the_weights_come_back() -> None:
    random = np.random.default_rng(5)
    scores, peak, background = (
        special.expit(random.normal(0, 2, 4000)),
        random.normal(0, 3, 4000),
        random.normal(-4, 1, 4000),
    )
    known = special.expit(0.5 * special.logit(scores) + 0.8 * peak - 0.3 * background - 1)
    truth = random.random(4000) < known
    masks = [MaskEvidence(float(p), float(b)) for p, b in zip(peak, background, strict=True)]
    scenes = [str(number) for number in range(4000)]
    found = fit_evidence(scores, masks, truth, scenes)
    *weights, _ = (
        found.calibration.weights or ()
    )  # the bias takes up what chance gave the background's weight, times four
    assert weights == pytest.approx((0.5, 0.8, -0.3), abs=0.1)
    assert found.loss_after < fit_calibration(scores, truth, scenes).loss_after - 0.1
    assert found.error_after < 0.05
    chances = [found.calibration.probability(float(s), mask) for s, mask in zip(scores, masks, strict=True)]
    assert calibration_error(np.array(chances), truth) < 0.05
    assert np.abs(np.array(chances) - known).mean() < 0.03


def test_without_a_mask_an_evidence_calibration_falls_back_to_the_score() -> None:
    both = Calibration("e", "evidence", temperature=2.0, bias=-1.0, weights=(0.5, 1.0, 0.0, 0.0))
    score_alone = Calibration("t", "temperature", temperature=2.0, bias=-1.0)
    assert both.probability(0.8) == score_alone.probability(0.8)
    assert both.probability(0.8, MaskEvidence(3.0, -5.0)) == pytest.approx(special.expit(0.5 * special.logit(0.8) + 3))
    assert Calibration.from_json(json.loads(json.dumps(both.to_json()))) == both
    with pytest.raises(CheckpointError, match="unusable"):
        Calibration("e", "evidence", weights=(1.0, 2.0))


def test_a_masks_evidence_is_its_strongest_region_and_its_background() -> None:
    logits_ = np.full((128, 128), -6.0, np.float32)
    logits_[:12, :12] = 40.0  # 0.9 % of the mask, beyond the limit
    evidence = MaskEvidence.of(logits_)
    assert evidence == MaskEvidence(LIMIT, -6.0)
    logits_[:, :] = -6.0
    logits_[0, 0] = 12.0
    assert MaskEvidence.of(logits_).peak < -5.5  # one cell is no region
