"""Numbers with their intervals, against values from the literature and against each other."""

import random

import pytest

from screening.statistics import Estimate, agreement, alpha, average, middle, share


def test_nothing_is_said_about_nothing() -> None:
    for estimate in (share(0, 0), middle([]), average([]), agreement([]), agreement([["a"]])):
        assert estimate == Estimate(None, 0)


def test_wilsons_interval_matches_published_values() -> None:
    # Newcombe 1998, table I, method 3: 81/263, 15/148, 0/20, 1/29.
    for (hits, n), (low, high) in {
        (81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0.0, 0.1611), (1, 29): (0.0061, 0.1718),
    }.items():  # fmt: skip
        found = share(hits, n)
        assert (found.value, found.n) == (hits / n, n)
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_krippendorffs_own_example_for_nominal_values() -> None:
    # Krippendorff 2011, section C: four observers, twelve units, missing values; alpha = 0.743.
    a = [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None]
    b = [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3]
    c = [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None]
    d = [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None]
    units = [[str(v) for v in column if v is not None] for column in zip(a, b, c, d, strict=True)]
    assert alpha([u for u in units if len(u) > 1]) == pytest.approx(0.743, abs=5e-4)


def test_alpha_is_one_for_agreement_and_about_zero_for_chance(rng: random.Random) -> None:
    assert alpha([["a", "a"], ["b", "b"]]) == 1
    assert alpha([["a", "a"], ["a", "a"]]) is None
    guessed = agreement([[rng.choice("ab"), rng.choice("ab")] for _ in range(2000)])
    assert guessed.value == pytest.approx(0, abs=0.12)
    assert guessed.low is not None
    assert guessed.high is not None
    assert guessed.low < 0.08
    assert guessed.high > -0.08


def test_a_medians_interval_covers_it_as_often_as_it_says(rng: random.Random) -> None:
    covered = 0
    for _ in range(400):
        found = middle([rng.expovariate(1.0) for _ in range(51)])
        covered += found.low is not None and found.high is not None and found.low <= 0.693147 <= found.high
    assert 0.90 <= covered / 400 <= 1.0


def test_an_average_has_the_interval_of_its_spread() -> None:
    found = average([1.0, 2.0, 3.0, 4.0])
    assert (found.value, found.n) == (2.5, 4)
    assert found.high == pytest.approx(2.5 + 1.959964 * (5 / 3) ** 0.5 / 2)
