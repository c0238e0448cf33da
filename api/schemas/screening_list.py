"""How does a platform look for its screenings?"""

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from api.schemas.fields import ClientRef, Text
from screening.rules import Outcome
from screening.tables import State

MAX_PAGE = 200


class Label(StrEnum):
    """What the verdict says."""

    AUTHENTIC = "authentic"
    FAKE = "fake"
    INCONCLUSIVE = "inconclusive"


class Paging(BaseModel):
    """Query parameters of every list; a parameter that nobody knows is a typing mistake, and said so."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=MAX_PAGE)
    cursor: Text | None = Field(
        default=None, max_length=512, description="From `next_cursor` or the Link header, with the filters unchanged."
    )


class ScreeningFilter(Paging):
    """Every given condition must hold."""

    state: State | None = None
    label: Label | None = None
    min_score: float | None = Field(default=None, ge=0, le=1)
    max_score: float | None = Field(default=None, ge=0, le=1)
    outcome: Outcome | None = None
    client_ref: ClientRef | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$"), AfterValidator(str.lower)] | None = None
    created_after: AwareDatetime | None = Field(default=None, description="This moment or later, with a time zone.")
    created_before: AwareDatetime | None = Field(default=None, description="Before this moment, with a time zone.")
