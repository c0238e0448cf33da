"""Which measurements need not be made again?

A measurement is kept under a digest of all that it depends on: the image's and the mask's bytes, the predictor's
identity (weights included), the perturbation and its seed, and the version of the measuring. An interrupted run so
goes on where it was, and nothing stale is ever found: what changes, changes the key.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker.defakerone.evaluation.results import Measurement
from worker.defakerone.replacing import replace_bytes

PROTOCOL = 1
"""Raised whenever the same inputs give another measurement."""


class MeasurementCache:
    """A folder of small JSON files, written whole; safe to share between runs at the same time."""

    def __init__(self, folder: Path, predictor: Mapping[str, Any], *, seed: int) -> None:
        self._folder = folder
        self._predictor = dict(predictor)
        self._seed = seed

    def find(self, image: str, mask: str | None, perturbation: str | None) -> Measurement | None:
        """The kept measurement of an image and mask, given by their SHA-256; None where there is none that reads."""
        try:
            row = json.loads(self._path(image, mask, perturbation).read_text(encoding="utf-8"))
            return Measurement.from_json(row)
        except (OSError, ValueError, KeyError, TypeError):
            return None  # a damaged file is as good as none: the measurement is made again and replaces it

    def keep(self, image: str, mask: str | None, perturbation: str | None, measurement: Measurement) -> None:
        """Keep a measurement; raises OSError where the disk does not take it."""
        path = self._path(image, mask, perturbation)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, json.dumps(measurement.to_json()).encode())

    def _path(self, image: str, mask: str | None, perturbation: str | None) -> Path:
        seed = None if perturbation is None else self._seed
        inputs = {"image": image, "mask": mask, "perturbation": perturbation, "seed": seed, "protocol": PROTOCOL}
        key = json.dumps({**inputs, "predictor": self._predictor}, sort_keys=True)
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self._folder / digest[:2] / f"{digest}.json"
