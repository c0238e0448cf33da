"""Where does each mark of a plot lie?

Numbers become coordinates here; a template draws them as SVG, without any script. The pages'
policy allows no inline style, so that colour and weight come from the style sheet, by class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any

TICKS = 4  # intervals on a counting axis, about
QUARTERS = (0, 0.25, 0.5, 0.75, 1)


@dataclass(frozen=True, slots=True)
class Area:
    """A plot's size in its own units, and the margins that its labels need."""

    width: float = 560
    height: float = 300
    left: float = 52
    right: float = 12
    top: float = 12
    bottom: float = 44

    def x(self, share: float) -> float:
        """The place of 0..1 along the horizontal axis."""
        return round(self.left + share * (self.width - self.left - self.right), 1)

    def y(self, share: float) -> float:
        """The place of 0..1 along the vertical axis, which grows upwards."""
        return round(self.height - self.bottom - share * (self.height - self.top - self.bottom), 1)


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis with what it says."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Point:
    """One estimate with its interval, and what it stands on."""

    x: float
    y: float
    low: float
    high: float
    radius: float
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Calibration:
    """The curve of a calibration: what was said against what was found."""

    area: Area
    points: tuple[Point, ...]
    ticks_x: tuple[Tick, ...]
    ticks_y: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """How many fell into one bin."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Histogram:
    """The distribution of scores, with the threshold that decides."""

    area: Area
    bars: tuple[Bar, ...]
    total: int
    threshold: float
    ticks_x: tuple[Tick, ...]
    ticks_y: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """A value and its interval on a track of 100 units; None where there is nothing to show."""

    value: float
    low: float
    high: float


def calibration(bins: Sequence[Mapping[str, Any]]) -> Calibration:
    """Bins as `screening.quality` gives them; a larger dot stands for more images."""
    area = Area()
    most = max((row["fake"]["n"] for row in bins), default=0)
    points = tuple(_point(area, row, most) for row in bins if row["fake"]["n"])
    return Calibration(
        area, points, _scores(area), tuple(Tick(area.y(share), f"{100 * share:.0f} %") for share in QUARTERS)
    )


def _scores(area: Area) -> tuple[Tick, ...]:
    """The horizontal axis of every plot over scores."""
    return tuple(Tick(area.x(share), f"{share:g}") for share in QUARTERS)


def _point(area: Area, row: Mapping[str, Any], most: int) -> Point:
    found = row["fake"]
    low, high = (area.y(found[end]) for end in ("low", "high"))
    radius = round(3 + 4 * (found["n"] / most) ** 0.5, 1)  # by area, as the eye compares
    return Point(area.x(row["mean"]), area.y(found["value"]), low, high, radius, row)


def histogram(bins: Sequence[Mapping[str, Any]], threshold: float = 0.5) -> Histogram:
    """Equal bins over 0..1."""
    area = Area()
    ticks = counting(max((row["count"] for row in bins), default=0))
    top = ticks[-1] or 1
    return Histogram(
        area,
        tuple(_bar(area, row, top, threshold) for row in bins),
        sum(row["count"] for row in bins),
        area.x(threshold),
        _scores(area),
        tuple(Tick(area.y(count / top), f"{count:,}") for count in ticks),
    )


def _bar(area: Area, row: Mapping[str, Any], top: int, threshold: float) -> Bar:
    left, right = area.x(row["low"]), area.x(row["high"])
    y = area.y(row["count"] / top)
    kind = "fake" if row["low"] >= threshold else "authentic"
    return Bar(left + 1, y, round(right - left - 2, 1), round(area.y(0) - y, 1), kind, row)


def counting(most: int) -> list[int]:
    """Round numbers from 0 to at least `most`, a handful of them."""
    if most <= 0:
        return [0]
    rough = most / TICKS
    magnitude = 10 ** floor(log10(rough)) if rough >= 1 else 1
    step = next(int(factor * magnitude) for factor in (1, 2, 5, 10) if factor * magnitude >= rough)
    return list(range(0, ceil(most / step) * step + 1, step))


def span(estimate: Mapping[str, Any], most: float = 1.0) -> Span | None:
    """An estimate between 0 and `most`; what lies outside is shown at the end of the track."""
    if estimate["value"] is None:
        return None
    low = estimate["value"] if estimate["low"] is None else estimate["low"]
    high = estimate["value"] if estimate["high"] is None else estimate["high"]
    value, low, high = (round(100 * min(max(v / most, 0), 1), 2) for v in (estimate["value"], low, high))
    return Span(value, low, high)
