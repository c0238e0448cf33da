"""Was a part of the image compressed before at another quality than the rest?"""

import cv2
import numpy as np
from PIL import Image

from worker.defakerone.evaluation.baselines.ela import resave_error
from worker.defakerone.evaluation.baselines.outliers import OUTLIER, Floats, heat, hottest, robust_deviations
from worker.defakerone.evaluation.predictors import Prediction

QUALITIES = range(50, 100, 5)
WINDOW = 16
"""Pixels a side of the average, as in the paper (equation 3, b = 16)."""
RESOLUTION = 0.05
"""The smallest spread of scaled differences that means anything: at the ends of the qualities nearly all are 0 or 1."""


def jpeg_ghosts(image: Image.Image) -> Prediction:
    """JPEG ghosts (H. Farid, IEEE Trans. Information Forensics and Security 4(1), 2009).

    The squared difference to the image saved at each of several qualities, averaged over a window and scaled to [0, 1]
    over the qualities, is small where the pixels had been compressed at that quality before. A region whose
    difference dips at a quality where the image's does not is its ghost: the evidence is the deepest such dip.
    """
    differences = np.stack([_difference(image, quality) for quality in QUALITIES])  # (qualities, height, width)
    low, high = differences.min(axis=0), differences.max(axis=0)
    differences -= low
    differences /= np.maximum(high - low, 1e-3)
    deepest = np.full(low.shape, -np.inf, np.float32)
    for scaled in differences:
        np.maximum(deepest, -robust_deviations(scaled, floor=RESOLUTION), out=deepest)
    heatmap = heat(deepest, border=OUTLIER, scale=OUTLIER)
    return Prediction(score=hottest(heatmap), heatmap=heatmap)


def _difference(image: Image.Image, quality: int) -> Floats:
    squared = (resave_error(image, quality) ** 2).mean(axis=2)
    return np.asarray(cv2.blur(squared, (WINDOW, WINDOW), borderType=cv2.BORDER_REFLECT_101), dtype=np.float32)
