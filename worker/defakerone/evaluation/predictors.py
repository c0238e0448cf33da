"""What can be measured? Anything that gives an image a score and each of its pixels a heat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HeatMap = NDArray[np.float32]
"""(height, width) in [0, 1], of the upright image's size."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a predictor says of one image.

    `probability` is None without a calibration. `label` may be `inconclusive`; metrics go by the score all the same.
    """

    score: float
    heatmap: HeatMap
    probability: float | None = None
    label: str | None = None


class Predictor(Protocol):
    """A detector, or a classical method in its place."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name, kind and versions, as JSON; whatever may change a prediction has to change it."""

    def predict(self, images: Sequence[Image.Image]) -> list[Prediction]:
        """Judge upright RGB images, each on its own: an image's company must not change its result."""
