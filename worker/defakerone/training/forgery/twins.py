"""What does the same place look like when it is shown again, elsewhere and processed otherwise?

A copy is found by what it shows, so before copies are looked for, the mask branch learns to describe a place in a way
that survives moving, turning, scaling and recompression. Two windows of one scene show nearly all of it twice, where a
copied region shows a few cells: the same lesson, a hundred times over for each picture.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from worker.defakerone.training.forgery.blending import add_noise
from worker.defakerone.training.forgery.journey import INTERPOLATIONS, random_jpeg
from worker.defakerone.training.forgery.operations import retone
from worker.defakerone.training.forgery.photos import PhotoLibrary, Pixels
from worker.defakerone.training.forgery.scenes import draw_scene

MARGIN = 64
"""Pixels of the scene around its first window: room for the second one to move, turn and shrink."""
DOCUMENTS = 0.08


@dataclass(frozen=True)
class TwinSample:
    """Two windows of one scene and, for each cell of the first, where the second shows it."""

    first: Pixels  # (side, side, 3)
    second: Pixels  # (side, side, 3)
    field: npt.NDArray[Any]  # (cells, cells, 2): x and y as fractions of the second window; nan where it lies outside


def draw_twins(rng: np.random.Generator, library: PhotoLibrary, side: int, cell: int) -> TwinSample:
    """Draw one pair; `cell` is the side in pixels of what gets one place."""
    large = side + 2 * MARGIN
    scene = draw_scene(rng, library, "document" if rng.random() < DOCUMENTS else "nature", (large, large)).pixels
    if scene.shape[:2] != (large, large):
        scene = np.asarray(cv2.resize(scene, (large, large)))
    matrix = _move(rng, large, side)
    how = INTERPOLATIONS[int(rng.integers(len(INTERPOLATIONS)))]
    second = cv2.warpAffine(scene, matrix, (side, side), flags=how, borderMode=cv2.BORDER_REFLECT)
    first = np.ascontiguousarray(scene[MARGIN : MARGIN + side, MARGIN : MARGIN + side])
    return TwinSample(_process(rng, first), _process(rng, second), _field(matrix, side, side // cell))


def _move(rng: np.random.Generator, large: int, side: int) -> npt.NDArray[Any]:
    """Carry the scene into the second window: often only shifted, by whole pixels or not."""
    turn = 0.0 if rng.random() < 0.4 else rng.normal(0, 0.35)
    scale = 1.0 if rng.random() < 0.4 else float(np.exp(rng.normal(0, 0.2)))
    flip = -1.0 if rng.random() < 0.1 else 1.0
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.diag([flip, 1.0])
    goal = side / 2 + rng.uniform(-side / 5, side / 5, 2)
    if rng.random() < 0.4:
        goal = np.round(goal)
    return np.column_stack([linear, goal - linear @ np.array([large / 2, large / 2])])


def _field(matrix: npt.NDArray[Any], side: int, cells: int) -> npt.NDArray[Any]:
    centres = (np.indices((cells, cells))[::-1].transpose(1, 2, 0) + 0.5) * side / cells - 0.5
    places = (centres + MARGIN) @ matrix[:, :2].T + matrix[:, 2]
    inside = ((places > 2) & (places < side - 3)).all(-1)
    return np.asarray(np.where(inside[..., None], (places + 0.5) / side, np.nan), np.float32)


def _process(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Do to one window what may happen to a copied region and not to its source; to half of them nothing."""
    processes: tuple[tuple[float, Callable[[], Pixels]], ...] = (
        (0.25, partial(random_jpeg, rng, pixels, 60, 98)),
        (0.1, lambda: add_noise(rng, pixels, float(rng.uniform(0.5, 5)))),
        (0.1, lambda: np.asarray(cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.3, 1.0))))),
        (0.1, partial(retone, rng, pixels)),
    )
    place = rng.random()
    for share, process in processes:
        if (place := place - share) < 0:
            return process()
    return pixels
