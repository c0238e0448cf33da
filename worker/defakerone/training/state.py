"""Where does a run stand, and how does that reach the disk whole or not at all?"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


class TrainingError(RuntimeError):
    """A run that cannot go on; the message names the file or the number at fault."""


@dataclass
class Position:
    """Where a run stands."""

    stage: int = 0
    step: int = 0
    pictures: int = 0
    best: float = -1.0
    stale: int = 0
    seconds: float = 0.0  # spent in the stage, over all calls: for stages that end by the clock


def write_whole(path: Path, state: dict[str, Any]) -> None:
    """Write beside the target and move into place; raises TrainingError and leaves the old file where it cannot."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(state, partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        partial.unlink(missing_ok=True)
        raise TrainingError(f"{path}: cannot be written ({error}); the state before it is untouched") from error
