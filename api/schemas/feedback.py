"""What does a platform know better?"""

from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime, BaseModel, Field

from api.schemas.fields import Body, Text


class Truth(StrEnum):
    """What the image really is."""

    AUTHENTIC = "authentic"
    FAKE = "fake"
    UNKNOWN = "unknown"


class FeedbackObject(BaseModel):
    """Feedback as it was kept."""

    id: str = Field(examples=["fbk_01a208cb102b7af0a440f8aaa5a8f58e"])
    object: Literal["feedback"]
    screening_id: str
    truth: Truth
    note: str | None
    created_at: AwareDatetime


class NewFeedback(Body):
    """What the platform says the truth was. Several may come; the latest counts."""

    truth: Truth
    note: Text | None = Field(default=None, max_length=2000)
