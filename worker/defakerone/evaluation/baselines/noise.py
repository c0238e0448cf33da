"""Where is the noise of another strength than in the rest of the image?"""

import cv2
import numpy as np
from PIL import Image

from worker.defakerone.evaluation.baselines.outliers import OUTLIER, Floats, heat, hottest, robust_deviations
from worker.defakerone.evaluation.predictors import Prediction

BLOCK = 16
"""Pixels a side of a block whose noise is estimated."""
MAD_OF_UNIT_NORMAL = 0.6745
SMALLEST_DEVIATION = 0.05
"""Grey levels; below it a block is flat or clipped and says nothing about noise."""
# High-pass filter of Daubechies' orthonormal wavelet with four vanishing moments (Ten Lectures, table 6.1).
DAUBECHIES_4 = np.array(
    [
        -0.010597401785069032, -0.0328830116668852, 0.030841381835560764, 0.18703481171909308,
        -0.027983769416859854, -0.6308807679298589, 0.7148465705529157, -0.2303778133088965,
    ],
    np.float32,
)  # fmt: skip


def noise_inconsistency(image: Image.Image) -> Prediction:
    """Noise inconsistency (B. Mahdian and S. Saic, Image and Vision Computing 27(10), 2009).

    The noise of each block is estimated as the median magnitude of its diagonal wavelet details over 0.6745 (Donoho
    and Johnstone's estimator), and blocks whose noise is unlike the image's are suspicious, quieter ones as much as
    louder ones. Logarithms are compared, so that half and double are equally far.
    """
    deviation = block_noise(np.asarray(image.convert("L"), np.float32))
    known = deviation > SMALLEST_DEVIATION
    outlying = np.abs(robust_deviations(np.log(np.maximum(deviation, SMALLEST_DEVIATION)), known, floor=0.01))
    full = np.asarray(cv2.resize(outlying, image.size, interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    heatmap = heat(full, border=OUTLIER, scale=OUTLIER)
    return Prediction(score=hottest(heatmap), heatmap=heatmap)


def block_noise(luminance: Floats) -> Floats:
    """Standard deviation of the noise of each 16 x 16 block, (rows, columns); an incomplete last block is dropped.

    Images smaller than a block are mirrored up to one.
    """
    details = np.abs(cv2.sepFilter2D(luminance, cv2.CV_32F, DAUBECHIES_4, DAUBECHIES_4, borderType=cv2.BORDER_REFLECT))
    height, width = details.shape
    if height < BLOCK or width < BLOCK:
        details = np.pad(details, [(0, max(0, BLOCK - height)), (0, max(0, BLOCK - width))], mode="symmetric")
        height, width = details.shape
    rows, columns = height // BLOCK, width // BLOCK
    blocks = details[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2)
    medians = np.median(blocks.reshape(rows, columns, BLOCK * BLOCK), axis=2)
    return np.asarray(medians / MAD_OF_UNIT_NORMAL, dtype=np.float32)
