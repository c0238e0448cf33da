"""What do webhooks say? The `webhooks` section of the OpenAPI document, for those who write receivers."""

from typing import Any, Literal

from fastapi import FastAPI
from pydantic import AwareDatetime, BaseModel, Field

from api.schemas.screening import FAILED, SUCCEEDED, ScreeningObject
from screening.event_types import EventType

DESCRIPTION = """Sent as Standard Webhooks 1.0: verify `webhook-signature` (HMAC-SHA256 over `id.timestamp.body`)
before believing anything. `webhook-id` stays the same over retries: handle each once. Any 2xx is success."""

TIMESTAMP = "2026-11-23T14:24:15.800Z"


class Message(BaseModel):
    """The root of every message."""

    timestamp: AwareDatetime = Field(description="When it happened; `webhook-timestamp` is when it was sent.")


class ScreeningMessage(Message):
    """A screening has ended."""

    type: Literal["screening.completed", "screening.failed"]
    data: ScreeningObject


class OtherMessage(Message):
    """Something else has happened; `data` names the review, decision or endpoint."""

    type: EventType
    data: dict[str, Any]


DECIDED: dict[str, Any] = {
    "id": "rev_01a208cb102b7af0a440f8aaa5a8f58e", "object": "review", "screening_id": SUCCEEDED["id"],
    "client_ref": "post-991",
    "decision": {
        "id": "dec_01a208cb102b7af0a440f8aaa5a8f58e", "verdict": "fake", "action": "block", "reason": None,
        "mask_feedback": "right", "reviewer": "reviewer-3", "reverses": None,
    },
}  # fmt: skip

EXAMPLES: dict[str, dict[str, Any]] = {
    "screening.completed": SUCCEEDED,
    "screening.failed": FAILED,
    "review.decided": DECIDED,
    "review.escalated": {
        "id": "rev_01a208cb102b7af0a440f8aaa5a8f58e", "screening_id": SUCCEEDED["id"], "reason": "unclear",
    },
    "decision.reversed": DECIDED,
    "webhook_endpoint.disabled": {
        "id": "whe_01a208cb102b7af0a440f8aaa5a8f58e", "object": "webhook_endpoint",
        "url": "https://example.com/assay", "disabled_reason": "failing",
        "detail": "For five days every attempt has failed.",
    },
    "webhook.test": {"endpoint_id": "whe_01a208cb102b7af0a440f8aaa5a8f58e", "message": "It works."},
}  # fmt: skip
WHEN = {
    "screening.completed": "A screening succeeded.",
    "screening.failed": "A screening failed.",
    "review.decided": "People decided a review.",
    "review.escalated": "A reviewer asked a lead to decide.",
    "decision.reversed": "A later decision replaced one that was told before.",
    "webhook_endpoint.disabled": "An endpoint failed for five days, or answered 410, and hears nothing more.",
    "webhook.test": "Somebody asked for a test.",
}


def install(app: FastAPI) -> None:
    """Describe every type of event."""
    for type in EventType:
        app.webhooks.post(
            type.value,
            summary=WHEN[type],
            description=DESCRIPTION,
            operation_id=f"on_{type.value.replace('.', '_')}",
            responses={"2XX": {"description": "Understood."}},
            status_code=204,
        )(_receiver(type))


def example(type: str) -> dict[str, Any]:
    """One message of this type."""
    return {"type": type, "timestamp": TIMESTAMP, "data": EXAMPLES[type]}


def _receiver(type: EventType) -> Any:
    """A function whose signature FastAPI reads; nobody calls it."""
    if type in (EventType.SCREENING_COMPLETED, EventType.SCREENING_FAILED):

        def screening(body: ScreeningMessage) -> None: ...

        return screening

    def other(body: OtherMessage) -> None: ...

    return other
