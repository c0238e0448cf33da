"""On what does a command run the detector, and with which weights?"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from worker.defakerone import DeFakerOne
    from worker.defakerone.settings import InferenceSettings

WEIGHTS_VARIABLE = "ASSAY_WEIGHTS"
DTYPES = ("auto", "float32", "bfloat16", "float16")


def default_weights() -> Path:
    """Return ASSAY_WEIGHTS where it is set, else the bundled checkpoint."""
    given = os.environ.get(WEIGHTS_VARIABLE)
    return Path(given) if given else Path(str(files("worker.defakerone"))) / "weights"


def load_model(weights: Path | None, device: str, dtype: str, settings: InferenceSettings | None = None) -> DeFakerOne:
    """Load a checkpoint for a command; raises click.UsageError that says what to do where there is none."""
    from worker.defakerone import DeFakerOne
    from worker.defakerone.errors import CheckpointError, WeightsMissingError
    from worker.defakerone.placement import choose_device, choose_dtype

    path, place = weights or default_weights(), choose_device(device)
    try:
        return DeFakerOne.from_pretrained(path, device=place, dtype=choose_dtype(dtype, place), settings=settings)
    except WeightsMissingError as error:
        raise click.UsageError(f"{error}\nName a checkpoint with --weights DIR or {WEIGHTS_VARIABLE}.") from error
    except CheckpointError as error:
        raise click.ClickException(str(error)) from error
