"""How is a model run: which images get masks, and how much goes into one pass?

Nothing here changes a result beyond rounding. Defaults are measured; `assay bench detector` measures them again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from worker.defakerone.errors import DetectorError

_MASK_MODE: Final = re.compile(r"always|never|above=(0?\.\d+|0|1|1\.0*)")


@dataclass(frozen=True, slots=True)
class MaskMode:
    """Which images are localized: those whose score is at least `above`. 0 means always, None never."""

    above: float | None = 0.0

    @classmethod
    def parse(cls, text: str) -> MaskMode:
        """Read `always`, `never` or `above=X` with X in 0..1; raises DetectorError."""
        match = _MASK_MODE.fullmatch(text)
        if match is None:
            raise DetectorError(f"mask mode {text!r}: write always, never or above=X with X from 0 to 1")
        if text == "never":
            return cls(None)
        return cls(float(match[1]) if match[1] else 0.0)

    def __str__(self) -> str:
        if self.above is None:
            return "never"
        return f"above={self.above:g}" if self.above else "always"

    def wants(self, score: float) -> bool:
        """Say whether an image of this score gets a mask."""
        return self.above is not None and score >= self.above


@dataclass(frozen=True, slots=True)
class PassSizes:
    """How much goes into one pass."""

    vision_chunk: int  # tiles in one pass of the vision tower; attention is per tile, so nothing is padded
    language_positions: int  # positions in one pass of the language model, padding counted
    grounding_chunk: int  # images in one pass of SAM2


# More would only spill a CPU's caches. A GPU wants enough to fill all of its multiprocessors several times over.
_ON_CPU: Final = PassSizes(vision_chunk=16, language_positions=16_384, grounding_chunk=2)
_ON_GPU: Final = PassSizes(vision_chunk=128, language_positions=32_768, grounding_chunk=8)


@dataclass(frozen=True, slots=True)
class InferenceSettings:
    """How the work is cut into passes. What is None depends on the device."""

    mask_mode: MaskMode = field(default_factory=MaskMode)
    vision_chunk: int | None = None
    language_positions: int | None = None
    grounding_chunk: int | None = None
    padding_share: float = 0.1  # images of unlike tile counts share a pass while at most this share is padding
    compile: bool = False  # torch.compile of the layers that come often; call `warm` before serving

    def pass_sizes(self, device_type: str) -> PassSizes:
        """Return what is set, and the device's own sizes (`cpu`, `cuda`) for the rest."""
        own = _ON_CPU if device_type == "cpu" else _ON_GPU
        return PassSizes(
            self.vision_chunk or own.vision_chunk,
            self.language_positions or own.language_positions,
            self.grounding_chunk or own.grounding_chunk,
        )
