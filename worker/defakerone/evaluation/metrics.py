"""What does a table of measured images say about the detector?

Every metric is one function of the table and of a weight for each image. With ones for weights it is the metric; with
bootstrap counts, one row a draw, it is the metric of every draw at once. So the value and its interval cannot come
from two definitions. Undefined values (an AUC without a negative, a mean over nothing) are NaN.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from worker.defakerone.evaluation.calibration import BINS, bin_of
from worker.defakerone.evaluation.localization import HALF, THRESHOLDS, iou_of_f1

Floats = NDArray[np.float64]

DECISION_THRESHOLD = 0.5
"""An image is called fake from this score on (the paper's fixed threshold)."""

ROUNDING = 1e-12
"""Means that differ by less are equal: sums of the same values may round differently."""
TWO_CLASSES = ("image_auc", "image_auc_pooled", "probability_auc", "probability_auc_pooled", "balanced_accuracy")
"""Metrics that set fakes against authentic images, and so rest on both."""


@dataclass(frozen=True, slots=True)
class MeasuredImages:
    """Columns over n images.

    `truth` is True for fake. `data_set` and `scene` are integer codes; a scene never spans data sets. `pixel_f1` is
    (n, 257), NaN rows where an image has no mask; `pixel_auc` (n,) likewise. `false_area` is the share of pixels at or
    above 0.5 of an authentic image, NaN for fakes. `abstained` tells that the verdict was `inconclusive`.
    """

    truth: NDArray[np.bool_]
    score: Floats
    probability: Floats
    abstained: NDArray[np.bool_]
    data_set: NDArray[np.int64]
    scene: NDArray[np.int64]
    pixel_f1: Floats
    pixel_auc: Floats
    false_area: Floats

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, rows: NDArray[np.int64]) -> Self:
        """The table of some rows, in their order."""
        return type(self)(**{column.name: getattr(self, column.name)[rows] for column in fields(self)})


def image_auc(images: MeasuredImages, weights: Floats) -> Floats:
    """ROC-AUC of the score over all pairs of a fake and an authentic image; ties count one half."""
    concordant, pairs = _concordance(images, weights)
    return _ratio(concordant, pairs)


def probability_auc(images: MeasuredImages, weights: Floats) -> Floats:
    """`image_auc` of the probability, which may weigh more than the score; the score's where there is none."""
    return image_auc(replace(images, score=images.probability), weights)


def probability_auc_pooled(images: MeasuredImages, weights: Floats) -> Floats:
    """`image_auc_pooled` of the probability."""
    return image_auc_pooled(replace(images, score=images.probability), weights)


def image_auc_pooled(images: MeasuredImages, weights: Floats) -> Floats:
    """The mean of the data sets' own ROC-AUCs, weighted by their positives x negatives.

    That is the share of concordant pairs among the pairs within one data set: telling one data set's fakes from
    another's authentic images earns nothing.
    """
    concordant = pairs = np.zeros(len(weights))
    for code in np.unique(images.data_set):
        rows = np.flatnonzero(images.data_set == code)
        more, of = _concordance(images.take(rows), weights[:, rows])
        concordant, pairs = concordant + more, pairs + of
    return _ratio(concordant, pairs)


def accuracy(images: MeasuredImages, weights: Floats) -> Floats:
    """The share of images on the right side of 0.5."""
    right = (images.score >= DECISION_THRESHOLD) == images.truth
    return _mean(right.astype(float), weights)


def balanced_accuracy(images: MeasuredImages, weights: Floats) -> Floats:
    """The mean of the recall of fakes and the recall of authentic images, at 0.5."""
    return (recall(images, weights) + 1.0 - false_positive_rate(images, weights)) / 2


def image_f1(images: MeasuredImages, weights: Floats) -> Floats:
    """F1 of the positive class fake, at 0.5."""
    called = images.score >= DECISION_THRESHOLD
    hits = weights @ (called & images.truth)
    return _ratio(2 * hits, weights @ called + weights @ images.truth)


def recall(images: MeasuredImages, weights: Floats) -> Floats:
    """The share of fakes called fake, at 0.5."""
    return _mean(np.where(images.truth, images.score >= DECISION_THRESHOLD, np.nan), weights)


def false_positive_rate(images: MeasuredImages, weights: Floats) -> Floats:
    """The share of authentic images called fake, at 0.5."""
    return _mean(np.where(images.truth, np.nan, images.score >= DECISION_THRESHOLD), weights)


def calibration_error(images: MeasuredImages, weights: Floats) -> Floats:
    """Expected calibration error of the probability (of the score, where there is no calibration).

    Sum over 15 bins of equal width of |share of fakes - mean probability|, weighted by the bin's share of the images.
    """
    member = (bin_of(images.probability)[:, None] == np.arange(BINS)).astype(float)  # (n, bins)
    gap = weights @ (member * (images.truth - images.probability)[:, None])  # (draws, bins)
    return _ratio(np.abs(gap).sum(axis=1), weights.sum(axis=1))


def abstention(images: MeasuredImages, weights: Floats) -> Floats:
    """The share of images whose verdict is `inconclusive`; the other metrics count them by their score all the same."""
    return _mean(images.abstained.astype(float), weights)


def pixel_f1(images: MeasuredImages, weights: Floats) -> Floats:
    """The mean over images with masks of the pixel F1 at 0.5."""
    return _mean(images.pixel_f1[:, HALF], weights)


def pixel_f1_best(images: MeasuredImages, weights: Floats) -> Floats:
    """The mean pixel F1 at the one threshold, the same for all images, that makes it largest."""
    curves = mean_f1_curve(images, weights)
    return np.asarray(curves.max(axis=1), dtype=np.float64)  # NaN where there is no mask


def pixel_f1_oracle(images: MeasuredImages, weights: Floats) -> Floats:
    """The mean pixel F1 when each image gets its own best threshold: a bound, not a performance."""
    return _mean(images.pixel_f1.max(axis=1), weights)


def pixel_f1_all_ones(images: MeasuredImages, weights: Floats) -> Floats:
    """The mean pixel F1 of marking every pixel: what a localization has to beat."""
    return _mean(images.pixel_f1[:, 0], weights)


def pixel_iou(images: MeasuredImages, weights: Floats) -> Floats:
    """The mean over images with masks of the intersection over union at 0.5."""
    return _mean(np.asarray(iou_of_f1(images.pixel_f1[:, HALF])), weights)


def pixel_auc(images: MeasuredImages, weights: Floats) -> Floats:
    """The mean over images with masks of the pixels' ROC-AUC."""
    return _mean(images.pixel_auc, weights)


def false_area(images: MeasuredImages, weights: Floats) -> Floats:
    """The mean over authentic images of the share of pixels marked at 0.5."""
    return _mean(images.false_area, weights)


Metric = Callable[[MeasuredImages, Floats], Floats]

METRICS: Mapping[str, Metric] = {
    "image_auc": image_auc,
    "image_auc_pooled": image_auc_pooled,
    "probability_auc": probability_auc,
    "probability_auc_pooled": probability_auc_pooled,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "image_f1": image_f1,
    "recall": recall,
    "false_positive_rate": false_positive_rate,
    "ece": calibration_error,
    "abstention": abstention,
    "pixel_f1": pixel_f1,
    "pixel_f1_best": pixel_f1_best,
    "pixel_f1_oracle": pixel_f1_oracle,
    "pixel_f1_all_ones": pixel_f1_all_ones,
    "pixel_iou": pixel_iou,
    "pixel_auc": pixel_auc,
    "false_area": false_area,
}


def counted_images(name: str, images: MeasuredImages) -> NDArray[np.bool_]:
    """Which images the metric `name` rests on."""
    if name in ("image_auc_pooled", "probability_auc_pooled"):
        both = np.intersect1d(images.data_set[images.truth], images.data_set[~images.truth])
        return np.isin(images.data_set, both)
    if name == "pixel_auc":
        return ~np.isnan(images.pixel_auc)
    if name.startswith("pixel_"):
        return ~np.isnan(images.pixel_f1[:, 0])
    only = {"false_area": ~images.truth, "recall": images.truth, "false_positive_rate": ~images.truth}
    return only.get(name, np.ones(len(images), np.bool_))


def mean_f1_curve(images: MeasuredImages, weights: Floats) -> Floats:
    """The mean pixel F1 at each threshold: (draws, 257); NaN rows where no image with a mask has weight."""
    rows = ~np.isnan(images.pixel_f1[:, 0])
    total = weights[:, rows].sum(axis=1)
    return _ratio(weights[:, rows] @ images.pixel_f1[rows], total[:, None])


def best_threshold(images: MeasuredImages) -> float | None:
    """The one threshold that gives the largest mean pixel F1, the lowest among equals; None without masks."""
    curve = mean_f1_curve(images, np.ones((1, len(images))))[0]
    if np.isnan(curve).any():
        return None
    return float(THRESHOLDS[int((curve >= curve.max() - ROUNDING).argmax())])


def _concordance(images: MeasuredImages, weights: Floats) -> tuple[Floats, Floats]:
    """Concordant pairs (ties one half) and all pairs of a positive and a negative, for each row of weights."""
    if not len(images):
        return np.zeros(len(weights)), np.zeros(len(weights))
    order = np.argsort(images.score, kind="stable")
    score, truth = images.score[order], images.truth[order]
    starts = np.flatnonzero(np.concatenate([[True], score[1:] != score[:-1]]))
    positive = np.add.reduceat(weights[:, order] * truth, starts, axis=1)  # (draws, distinct scores)
    negative = np.add.reduceat(weights[:, order] * ~truth, starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    concordant = (positive * (below + negative / 2)).sum(axis=1)
    return concordant, positive.sum(axis=1) * negative.sum(axis=1)


def _mean(values: Floats, weights: Floats) -> Floats:
    """The weighted mean of the values that are not NaN, for each row of weights."""
    rows = ~np.isnan(values)
    return _ratio(weights[:, rows] @ values[rows], weights[:, rows].sum(axis=1))


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    whole = np.broadcast_to(denominator, numerator.shape)
    ratio: Floats = np.full(numerator.shape, np.nan)
    np.divide(numerator, whole, out=ratio, where=whole > 0)
    return ratio
