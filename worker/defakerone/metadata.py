"""What does a checkpoint of ours say about itself beyond Sa2VA's layout?

`assay.json` beside config.json: the model's name, the prompt it was trained with, its calibration and its guard. A
checkpoint without the file is complete too: Sa2VA's prompt, no probability, no guard.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from worker.defakerone.calibration import Calibration
from worker.defakerone.errors import CheckpointError
from worker.defakerone.guard import Guard
from worker.defakerone.prompt import PromptConfig

FILE: Final = "assay.json"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Metadata:
    """The contents of assay.json. `training` is free-form: how the weights came to be."""

    name: str = "defakerone"
    prompt: PromptConfig = field(default_factory=PromptConfig)
    calibration: Calibration | None = None
    guard: Guard | None = None
    training: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> Metadata:
        """Read assay.json, or name the checkpoint after its directory; raises CheckpointError."""
        path = directory / FILE
        if not path.is_file():
            return cls(name=directory.resolve().name)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data.get("format") != _FORMAT:
                raise CheckpointError(f"{path}: format {data.get('format')!r}; this version reads {_FORMAT}")
            return cls(
                name=str(data["name"]),
                prompt=PromptConfig.from_json(data.get("prompt", {})),
                calibration=Calibration.from_json(data["calibration"]) if data.get("calibration") else None,
                guard=Guard.from_json(data["guard"]) if data.get("guard") else None,
                training=dict(data.get("training", {})),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path}: unusable ({error})") from error

    def write(self, directory: Path) -> None:
        """Write assay.json."""
        data = {
            "format": _FORMAT,
            "name": self.name,
            "prompt": self.prompt.to_json(),
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            "guard": None if self.guard is None else self.guard.to_json(),
            "training": self.training,
        }
        (directory / FILE).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
