"""How do the mask decoder's logits become a mask, a heat map and regions in the image's own pixels?

Two bilinear steps, decoder size to SAM2's input side, then to the image (design: 6.2): one step would differ at edges.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


def upsample_logits(low_res: Floats, side: int, size: tuple[int, int]) -> Floats:
    """Bring logits (S/4, S/4) to (height, width) = `size`, by way of (`side`, `side`); half-pixel centres."""
    height, width = size
    square = cv2.resize(np.ascontiguousarray(low_res), (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.resize(square, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
