"""How far do methods without learning get on the same images?

Each method is written from its description in the literature and knows decoded pixels only, as the detector does. None
of their few constants was chosen on evaluation data: they are the papers', or conventions named where they stand.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from worker.defakerone.evaluation.baselines.all_ones import all_ones
from worker.defakerone.evaluation.baselines.ela import error_level_analysis
from worker.defakerone.evaluation.baselines.jpeg_ghosts import jpeg_ghosts
from worker.defakerone.evaluation.baselines.jpeg_grid import jpeg_grid
from worker.defakerone.evaluation.baselines.noise import noise_inconsistency
from worker.defakerone.evaluation.predictors import Prediction

Method = Callable[[Image.Image], Prediction]

BASELINES: Mapping[str, Method] = {
    "ela": error_level_analysis,
    "noise": noise_inconsistency,
    "jpeg-grid": jpeg_grid,
    "jpeg-ghosts": jpeg_ghosts,
    "all-ones": all_ones,
}
VERSION = 1
"""Raised whenever a method's output changes, so that cached predictions are not taken for new ones."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A method under its name, as a predictor."""

    name: str

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name and version of the method."""
        return {"kind": "baseline", "name": self.name, "version": VERSION}

    def predict(self, images: Sequence[Image.Image]) -> list[Prediction]:
        """Judge each image by the method."""
        return [BASELINES[self.name](image) for image in images]
