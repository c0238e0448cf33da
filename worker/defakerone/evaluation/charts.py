"""How does a curve or a bar with its interval become a picture that needs no other file?

SVG, written by hand: it scales, it takes its colours from the page (dark or light), and every mark says its value when
the pointer rests on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from math import ceil
from typing import Any

SERIES = 8
"""Colours in the page's style sheet, `c0` to `c7`; more series start again."""


@dataclass(slots=True)
class Chart:
    """A square-ish plot with linear axes; `x` and `y` are the ends of the axes."""

    title: str
    x_label: str
    y_label: str
    x: tuple[float, float] = (0.0, 1.0)
    y: tuple[float, float] = (0.0, 1.0)
    width: int = 420
    height: int = 340
    marks: list[str] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)

    def line(self, xs: Sequence[float], ys: Sequence[float], style: str, name: str | None = None) -> None:
        """Draw a polyline; `name` puts it into the legend."""
        points = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in zip(xs, ys, strict=True))
        title = f"<title>{escape(name)}</title>" if name else ""
        self.marks.append(f'<polyline class="line {style}" points="{points}">{title}</polyline>')
        if name:
            self.legend.append((style, name))

    def dot(self, x: float, y: float, style: str, says: str, radius: float = 4.0) -> None:
        """Draw a dot that says something."""
        self.marks.append(
            f'<circle class="dot {style}" cx="{self._x(x):.1f}" cy="{self._y(y):.1f}" r="{radius:.1f}">'
            f"<title>{escape(says)}</title></circle>"
        )

    def svg(self) -> str:
        """The finished picture with its legend below."""
        keys = "".join(f'<li class="{style}">{escape(name)}</li>' for style, name in self.legend)
        return (
            f"<figure><figcaption>{escape(self.title)}</figcaption>"
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(self.title)}">'
            f"{self._axes()}{''.join(self.marks)}</svg>"
            + (f'<ul class="legend">{keys}</ul>' if keys else "")
            + "</figure>"
        )

    def _axes(self) -> str:
        left, right, top, bottom = 46, self.width - 12, 10, self.height - 42
        parts = []
        for step in range(6):
            share = step / 5
            x, y = left + share * (right - left), bottom - share * (bottom - top)
            parts += [
                f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>',
                f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>',
                f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{_tick(self.x, share)}</text>',
                f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{_tick(self.y, share)}</text>',
            ]
        middle = (top + bottom) / 2
        return (
            "".join(parts)
            + f'<text class="label" x="{(left + right) / 2}" y="{self.height - 6}" text-anchor="middle">'
            + f"{escape(self.x_label)}</text>"
            + f'<text class="label" transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">'
            + f"{escape(self.y_label)}</text>"
        )

    def _x(self, value: float) -> float:
        return 46 + (value - self.x[0]) / (self.x[1] - self.x[0]) * (self.width - 58)

    def _y(self, value: float) -> float:
        return self.height - 42 - (value - self.y[0]) / (self.y[1] - self.y[0]) * (self.height - 52)


def _tick(ends: tuple[float, float], share: float) -> str:
    return f"{ends[0] + share * (ends[1] - ends[0]):.3g}"


def roc(curves: Mapping[str, Any]) -> str:
    """ROC curves of every data set, thin, and of all images, bold."""
    chart = Chart("How well are fakes told from authentic images?", "false-positive rate", "true-positive rate")
    chart.line([0, 1], [0, 1], "guess")
    for number, (name, part) in enumerate(curves["data_sets"].items()):
        if part["roc"] is not None:
            chart.line(part["roc"][0], part["roc"][1], f"c{number % SERIES}", name)
    if curves["overall"]["roc"] is not None:
        chart.line(curves["overall"]["roc"][0], curves["overall"]["roc"][1], "all", "all images")
    return chart.svg()


def reliability(curve: Mapping[str, Any]) -> str:
    """Share of fakes against predicted probability; a dot's area grows with the number of images."""
    chart = Chart("Does a probability mean what it says?", "predicted probability of fake", "share of fakes")
    chart.line([0, 1], [0, 1], "guess")
    most = max((part["n"] for part in curve["reliability"]), default=1)
    for part in curve["reliability"]:
        says = f"{part['n']} images: predicted {part['probability']:.2f}, {part['fakes']:.2f} are fake"
        radius = 3 + 9 * (part["n"] / most) ** 0.5
        chart.dot(part["probability"], part["fakes"], "c0", says, radius)
    return chart.svg()


def thresholds(curves: Mapping[str, Any]) -> str:
    """Mean pixel F1 against the threshold, for every data set with masks and for all."""
    chart = Chart("How does the mask depend on the threshold?", "threshold on the heat map", "mean pixel F1")
    for number, (name, part) in enumerate(curves["data_sets"].items()):
        if part["f1"] is not None:
            chart.line(_steps(part["f1"]), part["f1"], f"c{number % SERIES}", name)
    overall = curves["overall"]["f1"]
    if overall is not None:
        chart.line(_steps(overall), overall, "all", "all images with masks")
        chart.line([0, 1], [overall[0], overall[0]], "guess", "marking every pixel")
    return chart.svg()


def perturbation(suite: str, found: Mapping[str, Any], control: Mapping[str, Any], metric: str, label: str) -> str:
    """One metric over a suite's levels, with intervals, against the unperturbed value."""
    levels = sorted(found["levels"], key=lambda level: level["level"])
    ends = (min(level["level"] for level in levels), max(level["level"] for level in levels))
    x = ends if ends[0] < ends[1] else (0.0, ends[1])
    chart = Chart(suite, found["unit"], label, x=x, y=(0.0, _top(levels, metric)), width=300, height=230)
    before = control["metrics"][metric]["value"]
    if before is not None:
        chart.line(chart.x, [before, before], "guess", "unperturbed")
    defined = [level for level in levels if level["metrics"][metric]["value"] is not None]
    chart.line(*_points(defined, metric), "all")
    for level in defined:
        estimate = level["metrics"][metric]
        if estimate["low"] is not None:
            chart.line([level["level"]] * 2, [estimate["low"], estimate["high"]], "whisker")
        chart.dot(level["level"], estimate["value"], "c0", f"{level['level']:g}: {estimate['value']:.3f}")
    return chart.svg()


def bars(title: str, parts: Mapping[str, Mapping[str, Any]], metric: str) -> str:
    """A horizontal bar a part with its 95 % interval and the number of images that it rests on; scale 0 to 1."""
    rows = []
    for name, part in parts.items():
        estimate = part["metrics"][metric] if "metrics" in part else part[metric]
        if estimate["value"] is None:
            continue
        low, high = estimate["low"], estimate["high"]
        whisker = "" if low is None else f'<i class="whisker" style="left:{low:.2%};width:{high - low:.2%}"></i>'
        between = "" if low is None else f", 95 % interval {low:.3f} to {high:.3f}"
        rows.append(
            f'<li title="{escape(name)}: {estimate["value"]:.3f}{between}, n = {estimate["n"]}">'
            f"<span>{escape(name)} <small>n={estimate['n']}</small></span>"
            f'<div class="track"><i class="bar" style="width:{estimate["value"]:.2%}"></i>{whisker}</div>'
            f"<b>{estimate['value']:.2f}</b></li>"
        )
    body = f'<ul class="bars">{"".join(rows)}</ul>' if rows else '<p class="none">nothing to measure it on</p>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{body}</figure>"


def _steps(values: Sequence[float]) -> list[float]:
    return [number / (len(values) - 1) for number in range(len(values))]


def _top(levels: Sequence[Mapping[str, Any]], metric: str) -> float:
    """The end of an axis from 0 that holds every level and its interval: a tenth at least, 1 at most."""
    ends = [level["metrics"][metric][end] or 0.0 for level in levels for end in ("value", "high")]
    return max(0.1, ceil(10 * max(ends)) / 10)


def _points(levels: Sequence[Mapping[str, Any]], metric: str) -> tuple[list[float], list[float]]:
    return [level["level"] for level in levels], [level["metrics"][metric]["value"] for level in levels]
