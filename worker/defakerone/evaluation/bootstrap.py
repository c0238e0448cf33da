"""How far might a metric be from its value on another sample of the same kind?

A percentile bootstrap (Efron & Tibshirani 1993, chapter 13) over scenes: images that share a scene are drawn together,
because a forgery and its original are no two independent observations. Scenes are drawn within each data set, so every
draw has the data sets' sizes.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from worker.defakerone.evaluation.metrics import METRICS, Floats, MeasuredImages, images_counted

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
    value, a single scene, or a metric that most draws leave undefined.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


def estimate_metrics(images: MeasuredImages, *, name: str, seed: int, draws: int = DRAWS) -> dict[str, Estimate]:
    """Every metric of the table with its 95 % interval; `name` and `seed` alone decide the draws."""
    values = evaluate_all(images, np.ones((1, len(images))))
    drawn: list[Floats] = []
    if len(np.unique(images.scene)) > 1:
        drawn = [evaluate_all(images, weights) for weights in draw_weights(images, name=name, seed=seed, draws=draws)]
    samples = np.concatenate(drawn, axis=1) if drawn else np.full((len(METRICS), 1), np.nan)
    return {
        metric: _estimate(values[row, 0], samples[row], images_counted(metric, images))
        for row, metric in enumerate(METRICS)
    }


def evaluate_all(images: MeasuredImages, weights: Floats) -> Floats:
    """Every metric, in the order of METRICS, for every row of weights: (metrics, draws)."""
    return np.stack([metric(images, weights) for metric in METRICS.values()])


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


def _estimate(value: float, samples: Floats, n: int) -> Estimate:
    if np.isnan(value):
        return Estimate(None, None, None, n)
    defined = samples[~np.isnan(samples)]
    if len(defined) < max(2, DEFINED_SHARE * len(samples)):
        return Estimate(float(value), None, None, n)
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high), n)
