"""What is the whole life of a delivery, and who may change its row?

This module alone writes delivery rows. Like a screening, a delivery is claimed with `FOR UPDATE SKIP LOCKED`, holds a
lease while it is sent, and is fenced by its `attempt`. Its log line is written by the claim, before anything is sent,
so the log never knows of fewer attempts than the receiver. Functions work in the caller's transaction and never commit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Self
from uuid import UUID

import structlog
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from screening import events
from screening.deliveries_sql import (
    ANY_EXPIRED,
    CLAIM,
    CLAIM_LOCK,
    DEAD_LETTERS,
    OLDEST_DUE,
    RECORD,
    REPLAY_RANGE,
    RESCUE,
)
from screening.delivery_schedule import GIVE_UP, Outcome
from screening.event_types import EventType
from screening.ids import Prefix, encode
from screening.settings import Settings
from screening.tables import Delivery, Endpoint, Event, assay_now

logger = structlog.get_logger(__name__)

LOCK_FAMILY = 0x41535359
TEST = EventType.TEST.value
DISABLED = EventType.ENDPOINT_DISABLED.value

# Read once: these run many times a second.
_CLAIM_LOCK, _CLAIM, _RECORD = text(CLAIM_LOCK), text(CLAIM), text(RECORD)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be under way at once, to whom."""

    per_endpoint: int
    per_platform: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the operator set them."""
        return cls(settings.webhook_per_endpoint, settings.webhook_per_platform)


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery in a sender's hands: everything it needs, fenced by `attempt`."""

    delivery_id: UUID
    attempt: int
    failures: int
    endpoint_id: UUID
    platform_id: UUID
    url: str
    secret: bytes
    previous_secret: bytes | None
    event_id: UUID
    type: str
    data: dict[str, Any]
    created_at: datetime
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class Attempted:
    """One attempt that has ended."""

    claim: Claim
    outcome: Outcome
    duration_ms: int


def claim(session: Session, *, limit: int, limits: Limits, lease: timedelta) -> list[Claim]:
    """Take up to `limit` due rows of enabled endpoints that are not throttled, shared among platforms."""
    session.execute(_CLAIM_LOCK, {"family": LOCK_FAMILY})
    parameters = {
        "limit": limit, "lease": lease, "per_endpoint": limits.per_endpoint, "per_platform": limits.per_platform,
    }  # fmt: skip
    return [Claim(**row) for row in session.execute(_CLAIM, parameters).mappings()]


def record(session: Session, attempts: Sequence[Attempted]) -> set[UUID]:
    """Write outcomes, log lines and the endpoints' health; returns the deliveries that were still the caller's."""
    if not attempts:
        return set()
    outcomes = [a.outcome for a in attempts]
    parameters = {
        "ids": [a.claim.delivery_id for a in attempts], "attempts": [a.claim.attempt for a in attempts],
        "delivered": [o.delivered for o in outcomes], "waits": [o.wait for o in outcomes],
        "durations": [a.duration_ms for a in attempts], "statuses": [o.status for o in outcomes],
        "errors": [o.error for o in outcomes], "responses": [o.response for o in outcomes],
        "healthy": list({a.claim.endpoint_id for a in attempts if a.outcome.delivered}), "give_up": GIVE_UP,
    }  # fmt: skip
    written = set(session.scalars(_RECORD, parameters))
    # In order of id, as above.
    for endpoint_id in sorted({a.claim.endpoint_id for a in attempts if not a.outcome.delivered}):
        _judge_endpoint(session, endpoint_id, [a.outcome for a in attempts if a.claim.endpoint_id == endpoint_id])
    return written


def _judge_endpoint(session: Session, endpoint_id: UUID, outcomes: Sequence[Outcome]) -> None:
    """What a batch of outcomes with a failure says about their endpoint; writes only where something changes."""
    this = update(Endpoint).where(Endpoint.id == endpoint_id).execution_options(synchronize_session=False)
    alive = any(o.delivered for o in outcomes)
    if not alive:
        session.execute(this.where(Endpoint.failing_since.is_(None)).values(failing_since=assay_now()))
    throttles = [o.throttle for o in outcomes if o.throttle is not None]
    if throttles:
        until = func.greatest(Endpoint.throttled_until, assay_now() + max(throttles))
        session.execute(this.values(throttled_until=until))
    if any(o.gone for o in outcomes):
        _disable(session, endpoint_id, "gone", "It answered 410 Gone.")
    elif not alive:
        too_long = Endpoint.failing_since <= assay_now() - GIVE_UP
        _disable(session, endpoint_id, "failing", "For five days every attempt has failed.", too_long)


def _disable(session: Session, endpoint_id: UUID, reason: str, detail: str, *conditions: Any) -> None:
    """Disable an endpoint and tell the platform's others. Its pending deliveries wait for it to be enabled again."""
    statement = (
        update(Endpoint)
        .where(Endpoint.id == endpoint_id, Endpoint.enabled, *conditions)
        .values(enabled=False, disabled_reason=reason, disabled_at=assay_now())
        .returning(Endpoint.platform_id, Endpoint.url)
        .execution_options(synchronize_session=False)
    )
    row = session.execute(statement).first()
    if row is None:
        return
    public_id = encode(Prefix.ENDPOINT, endpoint_id)
    logger.warning("endpoint.disabled", endpoint=public_id, reason=reason)
    data = {"id": public_id, "object": "webhook_endpoint", "url": row.url, "disabled_reason": reason, "detail": detail}
    events.emit(session, platform_id=row.platform_id, type=DISABLED, data=data)


def rescue(session: Session, *, limit: int) -> int:
    """Give back deliveries whose sender is gone; a crash costs no place in the schedule. Returns how many."""
    return session.scalar(text(RESCUE), {"limit": limit}) or 0


def any_due(session: Session, limits: Limits) -> bool:
    """Whether a sender would find work now: what the sweeper asks before it rings."""
    return bool(session.scalar(text(ANY_EXPIRED))) or _oldest_due(session, limits) is not None


def oldest_due_seconds(session: Session, limits: Limits) -> float:
    """Age of the oldest delivery that a claim would take now, in seconds; 0 with none."""
    return float(_oldest_due(session, limits) or 0.0)


def _oldest_due(session: Session, limits: Limits) -> Decimal | None:
    parameters = {"per_endpoint": limits.per_endpoint, "per_platform": limits.per_platform}
    seconds: Decimal | None = session.scalar(text(OLDEST_DUE), parameters)
    return seconds


def dead_letters(session: Session) -> int:
    """How many deliveries were given up and not replayed since."""
    return session.scalar(text(DEAD_LETTERS)) or 0


def replay(session: Session, delivery: Delivery) -> Delivery:
    """Send an event to its endpoint once more, at once, under the event's same id and a row of its own."""
    latest = select(func.max(Delivery.replay)).where(
        Delivery.event_id == delivery.event_id, Delivery.endpoint_id == delivery.endpoint_id
    )
    again = Delivery(
        event_id=delivery.event_id,
        endpoint_id=delivery.endpoint_id,
        platform_id=delivery.platform_id,
        replay=(session.scalar(latest) or 0) + 1,
    )
    session.add(again)
    session.flush()
    session.refresh(again)
    return again


def replay_range(
    session: Session, endpoint_id: UUID, since: datetime, until: datetime | None, *, undelivered: bool, limit: int
) -> int:
    """Send every event of a time range that the endpoint asks for once more; returns how many.

    Events whose delivery is still under way are left to it. `undelivered` leaves out those that arrived. Events from a
    time when the endpoint was disabled, or did not exist, are among them.
    """
    parameters = {
        "endpoint": endpoint_id, "since": since, "until": until, "undelivered": undelivered, "limit": limit,
    }  # fmt: skip
    return len(session.scalars(text(REPLAY_RANGE), parameters).all())


def send_test(session: Session, endpoint: Endpoint) -> Delivery:
    """A `webhook.test` event for this endpoint alone, whatever types it asks for."""
    public_id = encode(Prefix.ENDPOINT, endpoint.id)
    event = Event(platform_id=endpoint.platform_id, type=TEST, data={"endpoint_id": public_id, "message": "It works."})
    session.add(event)
    session.flush()
    delivery = Delivery(event_id=event.id, endpoint_id=endpoint.id, platform_id=endpoint.platform_id)
    session.add(delivery)
    session.flush()
    session.refresh(delivery)
    return delivery
