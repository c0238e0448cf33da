"""The tables, all registered on one metadata so that Alembic sees them."""

from screening.tables.audit import AuditEntry
from screening.tables.base import Base, assay_now
from screening.tables.event import Delivery, DeliveryAttempt, Endpoint, Event
from screening.tables.idempotency import IdempotencyRecord
from screening.tables.platform import ApiKey, Platform, Turn
from screening.tables.policy import KillSwitch, Policy, ShadowRuling, Standing
from screening.tables.provenance import Provenance
from screening.tables.rate_bucket import RateBucket
from screening.tables.review import Correction, Decision, Exposure, Golden, Passing, Review, ReviewState, Stage
from screening.tables.reviewer import Reviewer, ReviewerGrant, ReviewerSession, SignInAttempt
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
    score_band,
)

__all__ = [
    "TERMINAL",
    "ApiKey",
    "Attempt",
    "AuditEntry",
    "Base",
    "Correction",
    "Decision",
    "Delivery",
    "DeliveryAttempt",
    "Endpoint",
    "Event",
    "Exposure",
    "Feedback",
    "Finding",
    "Golden",
    "IdempotencyRecord",
    "Image",
    "KillSwitch",
    "Passing",
    "Platform",
    "Policy",
    "Priority",
    "Provenance",
    "RateBucket",
    "Review",
    "ReviewState",
    "Reviewer",
    "ReviewerGrant",
    "ReviewerSession",
    "Screening",
    "ShadowRuling",
    "SignInAttempt",
    "Stage",
    "Standing",
    "State",
    "Submission",
    "Turn",
    "assay_now",
    "score_band",
]
