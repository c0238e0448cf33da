"""How sure is a number? Each comes with its n and a 95 % interval; with nothing behind it, it is None."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, sqrt
from statistics import fmean, median, stdev
from typing import Any

Z = 1.959964  # 97.5 % of a standard normal
RESAMPLES = 400


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with what it stands on."""

    value: float | None
    n: int
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Rounded for people."""
        shown = {"value": self.value, "low": self.low, "high": self.high}
        return {"n": self.n, **{name: None if v is None else round(v, 6) for name, v in shown.items()}}


def share(hits: int, n: int) -> Estimate:
    """A proportion with Wilson's interval (Wilson 1927), which stays sensible near 0 and 1 and for small n."""
    if n == 0:
        return Estimate(None, 0)
    p = hits / n
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * sqrt(p * (1 - p) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
    return Estimate(p, n, max(0.0, centre - half), min(1.0, centre + half))


def middle(values: Sequence[float]) -> Estimate:
    """A median; the interval is between order statistics, by the normal form of the binomial."""
    n = len(values)
    if n == 0:
        return Estimate(None, 0)
    ordered = sorted(values)
    low = max(0, floor((n - Z * sqrt(n)) / 2))
    high = min(n - 1, ceil((n + Z * sqrt(n)) / 2))
    return Estimate(median(ordered), n, ordered[low], ordered[high])


def average(values: Sequence[float]) -> Estimate:
    """A mean with the normal interval; without a spread there is none."""
    n = len(values)
    if n < 2:
        return Estimate(values[0] if n else None, n)
    mean, half = fmean(values), Z * stdev(values) / sqrt(n)
    return Estimate(mean, n, mean - half, mean + half)


def agreement(units: Sequence[Sequence[str]], seed: int = 0) -> Estimate:
    """Krippendorff's alpha for nominal values, over units of at least two; a bootstrap over units gives the interval.

    `n` is the number of units. Krippendorff 2011, "Computing Krippendorff's alpha-reliability", section C.
    """
    paired = [unit for unit in units if len(unit) >= 2]
    value = alpha(paired)
    if value is None:
        return Estimate(None, len(paired))
    chance = random.Random(seed)  # noqa: S311 - resampling, not secrecy
    found = [alpha(chance.choices(paired, k=len(paired))) for _ in range(RESAMPLES)]
    drawn = sorted(v for v in found if v is not None)
    cut = len(drawn) * 25 // 1000
    return Estimate(value, len(paired), drawn[cut], drawn[-1 - cut])


def alpha(units: Sequence[Sequence[str]]) -> float | None:
    """1 - observed over expected disagreement; None where all values are the same, and nothing could disagree."""
    totals: Counter[str] = Counter()
    disagreement = 0.0
    for unit in units:
        counts = Counter(unit)
        totals.update(counts)
        pairs = len(unit) ** 2 - sum(count**2 for count in counts.values())
        disagreement += pairs / (len(unit) - 1)
    n = totals.total()
    expected = n**2 - sum(count**2 for count in totals.values())
    return None if expected == 0 else 1 - (n - 1) * disagreement / expected
