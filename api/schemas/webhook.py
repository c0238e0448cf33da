"""What may a platform say about where it listens?"""

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field, model_validator

from api.schemas.fields import Body, Text
from api.schemas.screening_list import Paging
from screening.event_types import EventType


class DeliveryState(StrEnum):
    """How far a delivery is. `dead` was given up after five days, and can be replayed."""

    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    DEAD = "dead"
    CANCELLED = "cancelled"


Url = Annotated[Text, Field(min_length=8, max_length=2048, examples=["https://example.com/assay"])]
Types = Annotated[list[EventType], Field(max_length=50, description="Which events to hear of; empty means all.")]
Description = Annotated[Text, Field(max_length=500)]
Ordered = Annotated[bool, Field(description="One at a time, in order: a failing event holds back those behind it.")]


class NewEndpoint(Body):
    """A new endpoint. Its secret is in the answer, and never again."""

    url: Url
    types: Types = Field(default_factory=list)
    description: Description | None = None
    ordered: Ordered = False


class EndpointChange(Body):
    """What is to be different; what is left out stays."""

    url: Url | None = None
    types: Types | None = None
    description: Description | None = None
    ordered: Ordered | None = None
    enabled: bool | None = Field(default=None, description="True forgets why it was disabled and sends what waited.")

    @model_validator(mode="after")
    def _no_nulls(self) -> "EndpointChange":
        nulled = [name for name in self.model_fields_set - {"description"} if getattr(self, name) is None]
        if nulled:
            raise ValueError(f"{', '.join(sorted(nulled))} may be left out, but not null.")
        return self


class TimeRange(Body):
    """Events of which time are sent once more: `since` is in the range, `until` is not."""

    since: AwareDatetime
    until: AwareDatetime | None = Field(default=None, description="Left out, the range ends now.")
    undelivered_only: bool = Field(default=False, description="Leave out events that have arrived.")

    @model_validator(mode="after")
    def _forward(self) -> "TimeRange":
        if self.until is not None and self.until <= self.since:
            raise ValueError("`until` must be after `since`.")
        return self


class DeliveryFilter(Paging):
    """Every given condition must hold."""

    state: DeliveryState | None = None
    type: EventType | None = None
