"""The tables, all registered on one metadata so that Alembic sees them."""

from screening.tables.audit import AuditEntry
from screening.tables.base import Base, assay_now
from screening.tables.event import Delivery, DeliveryAttempt, Endpoint, Event
from screening.tables.idempotency import IdempotencyRecord
from screening.tables.platform import ApiKey, Platform, Turn
from screening.tables.policy import KillSwitch, Policy, ShadowRuling, Standing
from screening.tables.rate_bucket import RateBucket
from screening.tables.review import Decision, Passing, Review, ReviewState, Stage
from screening.tables.screening import (
    TERMINAL,
    Attempt,
    Feedback,
    Finding,
    Image,
    Priority,
    Screening,
    State,
    Submission,
)

__all__ = [
    "TERMINAL",
    "ApiKey",
    "Attempt",
    "AuditEntry",
    "Base",
    "Decision",
    "Delivery",
    "DeliveryAttempt",
    "Endpoint",
    "Event",
    "Feedback",
    "Finding",
    "IdempotencyRecord",
    "Image",
    "KillSwitch",
    "Passing",
    "Platform",
    "Policy",
    "Priority",
    "RateBucket",
    "Review",
    "ReviewState",
    "Screening",
    "ShadowRuling",
    "Stage",
    "Standing",
    "State",
    "Submission",
    "Turn",
    "assay_now",
]
