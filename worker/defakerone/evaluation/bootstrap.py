"""How far might a metric be from its value on another sample of the same kind?

A percentile bootstrap (Efron & Tibshirani 1993, chapter 13) over scenes: images that share a scene are drawn together,
because a forgery and its original are no two independent observations. Scenes are drawn within each data set, so every
draw has the data sets' sizes.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from worker.defakerone.evaluation.metrics import METRICS, TWO_CLASSES, Floats, MeasuredImages, counted_images

Statistic = Callable[[MeasuredImages, Floats], Floats]
"""Gives (metrics, draws), in the order of METRICS, from a table and weights (draws, n)."""

DRAWS = 1000
LEVEL = 0.95
CELLS_AT_ONCE = 2_000_000
"""Weights held at a time (16 MB): bounds memory for large tables."""
DEFINED_SHARE = 0.5
"""Fewer draws than this with a defined value make no interval: what is left would be a biased half."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric's value, its interval and the number of images that it rests on.

    `value` is None where the metric is undefined; `low` and `high` are None where there is nothing to draw from: no
    value, a single scene behind it, or a metric that most draws leave undefined.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


def estimate_metrics(images: MeasuredImages, *, name: str, seed: int, draws: int = DRAWS) -> dict[str, Estimate]:
    """Every metric of the table with its 95 % interval; `name` and `seed` alone decide the draws."""
    return estimate(images, evaluate_all, name=name, seed=seed, draws=draws)


def estimate(
    images: MeasuredImages, statistic: Statistic, *, name: str, seed: int, draws: int = DRAWS
) -> dict[str, Estimate]:
    """The same for any statistic that gives one row a metric, such as means over data sets."""
    values = statistic(images, np.ones((1, len(images))))[:, 0]
    drawn = [statistic(images, weights) for weights in draw_weights(images, name=name, seed=seed, draws=draws)]
    samples = np.concatenate(drawn, axis=1)
    return {
        metric: _estimate(value, drawn_values, int(counted_images(metric, images).sum()), _scenes(metric, images))
        for metric, value, drawn_values in zip(METRICS, values, samples, strict=True)
    }


def evaluate_all(images: MeasuredImages, weights: Floats) -> Floats:
    """Every metric, in the order of METRICS, for every row of weights: (metrics, draws)."""
    return np.stack([metric(images, weights) for metric in METRICS.values()])


def mean_over_data_sets(images: MeasuredImages, weights: Floats) -> Floats:
    """Every metric as the unweighted mean over data sets; one that a data set leaves undefined skips that data set."""
    parts = (np.flatnonzero(images.data_set == code) for code in np.unique(images.data_set))
    return mean_of_defined([evaluate_all(images.take(rows), weights[:, rows]) for rows in parts])


def mean_of_defined(values: Sequence[Floats]) -> Floats:
    """The elementwise mean of arrays of one shape, NaN left out; NaN where all are."""
    stacked = np.stack(values)
    defined = ~np.isnan(stacked)
    count = defined.sum(axis=0)
    mean: Floats = np.full(count.shape, np.nan)
    np.divide(np.where(defined, stacked, 0).sum(axis=0), count, out=mean, where=count > 0)
    return mean


def draw_weights(images: MeasuredImages, *, name: str, seed: int, draws: int) -> Iterator[Floats]:
    """How often each image occurs in each draw, in pieces (draws, n) of bounded size."""
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    scenes, scene_of = np.unique(images.scene, return_inverse=True)
    strata = _scenes_by_data_set(images, scene_of, len(scenes))
    piece = max(1, CELLS_AT_ONCE // len(images))
    for start in range(0, draws, piece):
        counts = np.zeros((min(piece, draws - start), len(scenes)))
        for members in strata:
            even = np.full(len(members), 1 / len(members))
            counts[:, members] = random.multinomial(len(members), even, size=len(counts))
        yield counts[:, scene_of]


def _scenes_by_data_set(images: MeasuredImages, scene_of: np.ndarray, scenes: int) -> list[np.ndarray]:
    data_set_of_scene = np.zeros(scenes, dtype=np.int64)
    data_set_of_scene[scene_of] = images.data_set
    return [np.flatnonzero(data_set_of_scene == code) for code in np.unique(images.data_set)]


def _scenes(metric: str, images: MeasuredImages) -> int:
    """How many scenes a metric rests on; for one that sets two classes against each other, those of the smaller."""
    counted = counted_images(metric, images)
    classes = [counted & images.truth, counted & ~images.truth] if metric in TWO_CLASSES else [counted]
    return min(len(np.unique(images.scene[rows])) for rows in classes)


def _estimate(value: float, samples: Floats, n: int, scenes: int) -> Estimate:
    if np.isnan(value):
        return Estimate(None, None, None, n)
    defined = samples[~np.isnan(samples)]
    if scenes < 2 or len(defined) < max(2, DEFINED_SHARE * len(samples)):
        return Estimate(float(value), None, None, n)
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high), n)
