"""What do endpoints and deliveries look like outside? The JSON objects of the API and of the pages."""

from collections.abc import Sequence
from typing import Any

from screening.document import timestamp
from screening.ids import Prefix, encode
from screening.tables import Delivery, DeliveryAttempt, Endpoint, Event


def endpoint(row: Endpoint) -> dict[str, Any]:
    """An endpoint without its secrets."""
    return {
        "id": encode(Prefix.ENDPOINT, row.id),
        "object": "webhook_endpoint",
        "url": row.url,
        "description": row.description,
        "types": row.types,
        "ordered": row.ordered,
        "enabled": row.enabled,
        "disabled_reason": row.disabled_reason,
        "disabled_at": timestamp(row.disabled_at),
        "failing_since": timestamp(row.failing_since),
        "throttled_until": timestamp(row.throttled_until),
        "previous_secret_until": timestamp(row.previous_secret_until),
        "created_at": timestamp(row.created_at),
    }


def delivery(row: Delivery, event: Event, attempts: Sequence[DeliveryAttempt] = ()) -> dict[str, Any]:
    """A delivery with its log, the first attempt first."""
    return {
        "id": encode(Prefix.DELIVERY, row.id),
        "object": "delivery",
        "endpoint_id": encode(Prefix.ENDPOINT, row.endpoint_id),
        "event_id": encode(Prefix.EVENT, row.event_id),
        "type": event.type,
        "state": row.state,
        "replay": row.replay,
        "attempt": row.attempt,
        "next_attempt_at": timestamp(row.due_at) if row.state == "pending" else None,
        "first_attempt_at": timestamp(row.first_attempt_at),
        "delivered_at": timestamp(row.delivered_at),
        "created_at": timestamp(row.created_at),
        "attempts": [attempt(a) for a in attempts],
    }


def attempt(row: DeliveryAttempt) -> dict[str, Any]:
    """One line of the log."""
    return {
        "attempt": row.attempt,
        "started_at": timestamp(row.started_at),
        "duration_ms": row.duration_ms,
        "status": row.status,
        "error": row.error,
        "response": row.response,
    }
