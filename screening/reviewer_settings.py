"""What can a reviewer set for themselves? Keys, veils and the way a mask is drawn."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

Key = Annotated[str, StringConstraints(min_length=1, max_length=20, pattern=r"^(\S+)$")]


class Act(StrEnum):
    """What a key can do on the review page."""

    AUTHENTIC = "authentic"
    FAKE = "fake"
    UNDO = "undo"
    ESCALATE = "escalate"
    SKIP = "skip"
    CONTOUR = "contour"
    FILL = "fill"
    HEAT = "heat"
    OPACITY_DOWN = "opacity_down"
    OPACITY_UP = "opacity_up"
    HIDE_MASK = "hide_mask"
    LOUPE = "loupe"
    NEXT_REGION = "next_region"
    PREVIOUS_REGION = "previous_region"
    REVEAL = "reveal"
    HELP = "help"
    MASK_WRONG = "mask_wrong"
    BRUSH = "brush"
    ERASER = "eraser"
    CONFIRM = "confirm"


KEYS: dict[Act, str | None] = dict(
    zip(
        Act,
        ["a", "f", "u", "e", "s", "1", "2", "3", "[", "]", "m", "z", "j", "k", "Space", "?", "w", "b", "x", "Enter"],
        strict=True,
    )
)


class ReviewerSettings(BaseModel):
    """All of it, with defaults. Blur and greyscale are on: whether they protect is disputed, that they cost is not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: dict[Act, Key | None] = Field(default_factory=lambda: dict(KEYS))
    keys_enabled: bool = True
    blur: bool = True
    greyscale: bool = True
    reduced_motion: bool | None = None  # None: as the system says
    theme: Literal["dark", "light", "system"] = "dark"  # dark tints least what a reviewer judges
    mask_mode: Literal["contour", "fill", "heat"] = "contour"
    mask_opacity: Annotated[float, Field(ge=0, le=1)] = 0.6

    @field_validator("keys")
    @classmethod
    def _complete(cls, keys: dict[Act, str | None]) -> dict[Act, str | None]:
        return {**KEYS, **keys}

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        used = [key for key in self.keys.values() if key is not None]
        if twice := sorted({key for key in used if used.count(key) > 1}):
            raise ValueError(f"one key does one thing; used twice: {', '.join(twice)}")
        return self
