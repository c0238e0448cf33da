"""Marks lie where their numbers are, axes end at round numbers, and nothing leaves the plot."""

import random

import pytest

from api.pages import plots


def estimate(value: float, low: float, high: float, n: int) -> dict[str, float]:
    return {"value": value, "low": low, "high": high, "n": n}


def test_a_point_stands_where_it_was_said_and_found_with_its_interval_upwards() -> None:
    row = {"low": 0.5, "high": 0.6, "mean": 0.5, "fake": estimate(0.25, 0.0, 1.0, 4)}
    found = plots.calibration([row])
    [point] = found.points
    area = found.area
    assert point.x == (area.x(0) + area.x(1)) / 2
    assert point.y == pytest.approx(area.y(0) - 0.25 * (area.y(0) - area.y(1)), abs=0.1)
    assert (point.low, point.high) == (area.y(0), area.y(1))
    assert point.high < point.y < point.low


def test_a_larger_dot_stands_for_more_and_an_empty_bin_for_nothing() -> None:
    rows = [{"mean": m, "fake": estimate(0.5, 0.4, 0.6, n)} for m, n in ((0.1, 1), (0.5, 100), (0.9, 0))]
    assert [point.radius for point in plots.calibration(rows).points] == [3.4, 7.0]


@pytest.mark.parametrize(
    ("most", "ticks"),
    [(0, [0]), (1, [0, 1]), (3, [0, 1, 2, 3]), (38, [0, 10, 20, 30, 40]), (1_001, [0, 500, 1_000, 1_500])],
)  # fmt: skip
def test_a_counting_axis_ends_at_a_round_number(most: int, ticks: list[int]) -> None:
    assert plots.counting(most) == ticks


def test_bars_stand_on_the_axis_within_the_plot_and_change_colour_at_the_threshold(rng: random.Random) -> None:
    bins = [{"low": b / 20, "high": (b + 1) / 20, "count": rng.randrange(5_000)} for b in range(20)]
    found = plots.histogram(bins)
    area = found.area
    assert found.total == sum(row["count"] for row in bins)
    for bar in found.bars:
        assert area.y(1) <= bar.y <= area.y(0)
        assert bar.y + bar.height == pytest.approx(area.y(0))
        assert area.x(0) <= bar.x
        assert bar.x + bar.width <= area.x(1)
        assert bar.kind == ("fake" if bar.x > found.threshold else "authentic")
    assert plots.histogram([]).total == 0


def test_an_interval_stays_on_its_track_and_nothing_has_none() -> None:
    assert plots.span({"value": None, "low": None, "high": None}) is None
    assert plots.span({"value": 0.5, "low": None, "high": None}) == plots.Span(50, 50, 50)
    assert plots.span({"value": -0.2, "low": -0.9, "high": 1.4}) == plots.Span(0, 0, 100)
    assert plots.span({"value": 3, "low": 1, "high": 8}, 10) == plots.Span(30, 10, 80)
