"""Where does an image lose more, or less, than elsewhere when it is compressed once more?"""

from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from worker.defakerone.evaluation.baselines.outliers import OUTLIER, Floats, heat, hottest, robust_deviations
from worker.defakerone.evaluation.predictors import Prediction

QUALITY = 90
"""The quality of the one resave; Krawetz resaves at a known rate and shows 95 and 90."""
WINDOW = 8
"""Pixels a side over which errors are averaged: one JPEG block."""


def error_level_analysis(image: Image.Image) -> Prediction:
    """Error-level analysis (N. Krawetz, A Picture's Worth, Black Hat 2007).

    The image is compressed as JPEG at a known quality; the error level of a pixel is its largest change over the
    channels. Regions that were compressed another number of times, or not at all, stand above the rest.
    """
    error = resave_error(image, QUALITY).max(axis=2)
    level = cv2.blur(error, (WINDOW, WINDOW), borderType=cv2.BORDER_REFLECT_101)
    heatmap = heat(robust_deviations(level, floor=0.1), border=OUTLIER, scale=OUTLIER)
    return Prediction(score=hottest(heatmap), heatmap=heatmap)


def resave_error(image: Image.Image, quality: int) -> Floats:
    """Absolute change (height, width, 3) of each channel, 0 to 255, when saved as JPEG and read again."""
    file = BytesIO()
    image.save(file, "JPEG", quality=quality)
    with Image.open(file) as resaved:
        return cv2.absdiff(np.asarray(image), np.asarray(resaved.convert("RGB"))).astype(np.float32)
