"""How is the detector put where a classical method can stand?"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from worker.defakerone.evaluation.predictors import Prediction

if TYPE_CHECKING:
    from worker.defakerone import DeFakerOne


class ModelPredictor:
    """DeFakerOne as a predictor; every image is localized, since pixel metrics need a heat map of each."""

    def __init__(self, model: "DeFakerOne") -> None:
        self._model = model

    @property
    def identity(self) -> Mapping[str, Any]:
        """Model, weights, preprocessing, calibration, guard, and what the arithmetic runs on."""
        calibration, guard = self._model.metadata.calibration, self._model.metadata.guard
        return {
            "kind": "model",
            "name": self._model.versions["model"],
            **self._model.versions,
            "calibration_id": None if calibration is None else calibration.id,
            "guard_id": None if guard is None else guard.id,
            "device": self._model.device.type,
            "dtype": str(self._model.dtype).removeprefix("torch."),
        }

    def predict(self, images: Sequence[Image.Image]) -> list[Prediction]:
        """Judge the images in one batch."""
        return [
            Prediction(
                score=found.score,
                heatmap=np.clip(found.heatmap, 0.0, 1.0),
                probability=found.probability,
                label=found.label,
            )
            for found in self._model.detect(list(images))
        ]
