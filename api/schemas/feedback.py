"""What does a platform know better?"""

from enum import StrEnum

from pydantic import Field

from api.schemas.fields import Body, Text


class Truth(StrEnum):
    """What the image really is."""

    AUTHENTIC = "authentic"
    FAKE = "fake"
    UNKNOWN = "unknown"


class NewFeedback(Body):
    """What the platform says the truth was. Several may come; the latest counts."""

    truth: Truth
    note: Text | None = Field(default=None, max_length=2000)
