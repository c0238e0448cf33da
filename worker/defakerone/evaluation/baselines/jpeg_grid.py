"""Does a part of the image carry a JPEG block grid of another origin than the rest?"""

from itertools import product
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import betainc

from worker.defakerone.evaluation.baselines.outliers import Floats, heat
from worker.defakerone.evaluation.predictors import Prediction

SIDE = 8
ORIGINS = SIDE * SIDE
WINDOW = 32
"""Pixels a side of the windows in which votes are counted."""
NO_VOTE = -1
LOG_FLOOR = 1e-300
HALF_STEP = 0.4995
"""Below it a coefficient rounds to zero. Coefficients of whole grey levels are often exactly 0.5, which is no zero: the
margin keeps float32 from deciding by its last bit, differently on each processor."""


def jpeg_grid(image: Image.Image) -> Prediction:
    """JPEG grid origins by votes, after ZERO (Nikoukhah et al., Image Processing On Line 11, 2021).

    Each pixel votes for the origin of that 8 x 8 block around it whose DCT has most zeros. The origin with most votes
    is the image's. In every 32 x 32 window, the number of false alarms tells how surprising the votes for the best
    other origin are, if votes were even over the 64 origins; votes inside a block are one observation, so their
    numbers are divided by 64. One false alarm in the image is a heat of 0.5. Where ZERO grows regions, windows are
    used here.
    """
    votes = grid_votes(np.asarray(image.convert("L"), np.float32))
    evidence = _foreign_grid_evidence(votes)
    heatmap = heat(_spread(evidence, votes.shape), border=0.0, scale=1.0)
    return Prediction(score=float(heatmap.max()), heatmap=heatmap)


def grid_votes(luminance: Floats) -> NDArray[np.int8]:
    """The origin 8 * (row mod 8) + (column mod 8) that each pixel votes for, -1 where it abstains.

    A pixel abstains on a tie of two origins and where its best block is constant along a side, since every shift of
    such a block has as many zeros. Images below 8 pixels a side have no votes.
    """
    votes = np.full(luminance.shape, NO_VOTE, np.int8)
    if min(luminance.shape) < SIDE:
        return votes
    zeros = _zeros_of_blocks(luminance)
    varies = _varies(luminance)
    most = np.full(luminance.shape, -1, np.int8)
    height, width = luminance.shape
    for down, right in product(range(SIDE), repeat=2):  # the block that begins `down` and `right` before the pixel
        covered = np.s_[down : down + zeros.shape[0], right : right + zeros.shape[1]]
        rows = (np.arange(height)[covered[0]] - down) % SIDE
        columns = (np.arange(width)[covered[1]] - right) % SIDE
        origin = (SIDE * rows[:, None] + columns).astype(np.int8)
        votes[covered][zeros == most[covered]] = NO_VOTE
        better = zeros > most[covered]
        votes[covered][better] = np.where(varies, origin, NO_VOTE)[better]
        most[covered][better] = zeros[better]
    return votes


def _zeros_of_blocks(luminance: Floats) -> NDArray[np.int8]:
    """How many of the 63 AC coefficients of the block that begins at each pixel round to zero."""
    height, width = luminance.shape
    rows, columns = height - SIDE + 1, width - SIDE + 1
    zeros = np.zeros((rows, columns), np.int8)
    for across, along_x in enumerate(_DCT):
        filtered = cv2.filter2D(luminance, cv2.CV_32F, along_x[None, :], anchor=(0, 0))
        for down, along_y in enumerate(_DCT):
            if across or down:
                coefficient = cv2.filter2D(filtered, cv2.CV_32F, along_y[:, None], anchor=(0, 0))
                zeros += np.abs(coefficient[:rows, :columns]) < HALF_STEP
    return zeros


def _varies(luminance: Floats) -> NDArray[np.bool_]:
    """Whether the block that begins at each pixel changes along both of its sides."""
    size = np.ones((SIDE, SIDE - 1), np.uint8)
    rows, columns = luminance.shape[0] - SIDE + 1, luminance.shape[1] - SIDE + 1
    changes_x = (np.diff(luminance, axis=1) != 0).astype(np.uint8)
    changes_y = (np.diff(luminance, axis=0) != 0).astype(np.uint8)
    x = cv2.dilate(changes_x, size, anchor=(0, 0))[:rows, :columns]
    y = cv2.dilate(changes_y, size.T, anchor=(0, 0))[:rows, :columns]
    return np.asarray((x > 0) & (y > 0), dtype=np.bool_)


def _foreign_grid_evidence(votes: NDArray[np.int8]) -> Floats:
    """-log10 of the number of false alarms of the best foreign origin, a value for each 8 x 8 cell."""
    counts = np.bincount(votes[votes != NO_VOTE], minlength=ORIGINS)
    main = int(counts.argmax())
    cast = _in_windows(votes != NO_VOTE)
    foreign = np.zeros(cast.shape, np.float32)
    for origin in np.flatnonzero(counts):
        if origin != main:
            np.maximum(foreign, _in_windows(votes == origin), out=foreign)
    chance = _binomial_tail(foreign / ORIGINS, cast / ORIGINS, 1 / ORIGINS)
    return np.asarray(-np.log10(np.maximum(chance, LOG_FLOOR)) - np.log10(ORIGINS * cast.size), dtype=np.float32)


def _in_windows(marked: NDArray[np.bool_]) -> Floats:
    """Count marked pixels in the window around each 8 x 8 cell."""
    total = cv2.boxFilter(
        marked.astype(np.float32), cv2.CV_32F, (WINDOW, WINDOW), normalize=False, borderType=cv2.BORDER_CONSTANT
    )
    rows, columns = (np.minimum(np.arange(0, side, SIDE) + SIDE // 2, side - 1) for side in marked.shape)
    return np.asarray(total[rows[:, None], columns], dtype=np.float32)


def _binomial_tail(successes: NDArray[Any], trials: NDArray[Any], chance: float) -> NDArray[np.float64]:
    """P(X >= k) for X ~ B(n, p), continued to real k and n by the incomplete beta function; 1 at k = 0."""
    k = np.maximum(successes, 1e-9).astype(np.float64)
    tail = betainc(k, np.maximum(trials - k + 1, 1e-9), chance)
    return np.where(successes > 0, tail, 1.0)


def _spread(cells: Floats, shape: tuple[int, ...]) -> Floats:
    rows, columns = (np.arange(side) // SIDE for side in shape)
    return np.asarray(cells[rows[:, None], columns], dtype=np.float32)


def _dct_rows() -> Floats:
    frequency, position = np.arange(SIDE)[:, None], np.arange(SIDE)
    rows = np.cos((2 * position + 1) * frequency * np.pi / (2 * SIDE)) * np.sqrt(2 / SIDE)
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, dtype=np.float32)


_DCT = _dct_rows()
