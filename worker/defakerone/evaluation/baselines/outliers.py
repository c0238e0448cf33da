"""How does a map of some local statistic become a heat map in which what sticks out is hot?

The methods leave it to a person to see that one region differs from the rest. Here a region differs as much as it lies
robust standard deviations (median and median absolute deviation) from the image's own median, and three of them, the
usual border of an outlier, are a heat of 0.5.
"""

import numpy as np
from numpy.typing import NDArray

from worker.defakerone.evaluation.predictors import HeatMap

Floats = NDArray[np.float32]

OUTLIER = 3.0
"""Robust standard deviations at which a value counts as an outlier."""
MAD_TO_DEVIATION = 1.4826
"""Makes the median absolute deviation estimate the standard deviation of a normal distribution."""
TOP_SHARE = 0.01
"""An image is as suspicious as its hottest hundredth."""


def robust_deviations(values: Floats, known: NDArray[np.bool_] | None = None, floor: float = 1e-6) -> Floats:
    """Distance of each value from the median, in robust standard deviations; 0 where nothing is `known`.

    `floor` is the smallest deviation that the statistic can resolve: a flat image has no outliers.
    """
    known = np.ones(values.shape, bool) if known is None else known
    if not known.any():
        return np.zeros(values.shape, np.float32)
    centre = np.median(values[known])
    deviation = MAD_TO_DEVIATION * np.median(np.abs(values[known] - centre)) + floor
    return np.where(known, (values - centre) / deviation, 0).astype(np.float32)


def heat(evidence: Floats, border: float, scale: float) -> HeatMap:
    """Map any real evidence into (0, 1), 0.5 at `border`, without ties: its order is the evidence's."""
    distance = (evidence - border) / scale
    return np.asarray((1 + distance / (1 + np.abs(distance))) / 2, dtype=np.float32)


def hottest(heatmap: HeatMap) -> float:
    """The mean of the hottest hundredth of the pixels: an image score from a heat map."""
    count = max(1, int(heatmap.size * TOP_SHARE))
    return float(np.partition(heatmap, heatmap.size - count, axis=None)[-count:].mean())
