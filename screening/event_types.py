"""What may a platform hear of? The types of events; there will be more, and none is renamed."""

from enum import StrEnum


class EventType(StrEnum):
    """What an endpoint may ask to hear of. There will be more."""

    SCREENING_COMPLETED = "screening.completed"
    SCREENING_FAILED = "screening.failed"
    REVIEW_DECIDED = "review.decided"
    REVIEW_ESCALATED = "review.escalated"
    DECISION_REVERSED = "decision.reversed"
    ENDPOINT_DISABLED = "webhook_endpoint.disabled"
    TEST = "webhook.test"
