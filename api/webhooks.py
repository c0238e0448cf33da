"""Which endpoint or delivery does a caller mean? One of its own platform, or none at all."""

from collections import defaultdict
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from api import problems
from api.problems import CONFLICT, Problem, invalid
from api.schemas.screening_list import Paging
from api.schemas.webhook import DeliveryFilter
from screening import endpoints, outbound, webhook_document
from screening.addresses import parse_ranges
from screening.ids import Prefix, decode
from screening.outbound import OutboundError
from screening.settings import Settings
from screening.tables import Delivery, DeliveryAttempt, Endpoint, Event

Position = tuple[datetime, UUID]


def check_url(url: str, settings: Settings) -> str:
    """The URL, if anything could be sent there. Raises Problem 422; names are resolved only when something is sent."""
    try:
        outbound.check_url(url, parse_ranges(settings.allowed_ranges) + parse_ranges(settings.webhook_allowed_ranges))
    except OutboundError as error:
        raise invalid("/url", str(error)) from None
    return url


def load_endpoint(session: Session, platform_id: UUID, public_id: str) -> Endpoint:
    """The endpoint of this id. Raises Problem 404 for malformed, unknown and foreign ids alike."""
    id = decode(Prefix.ENDPOINT, public_id)
    row = None if id is None else endpoints.find(session, platform_id, id)
    if row is None:
        raise problems.not_found()
    return row


def load_live_endpoint(session: Session, platform_id: UUID, public_id: str) -> Endpoint:
    """As `load_endpoint`. Raises Problem 409 where it is disabled: nothing would be sent."""
    row = load_endpoint(session, platform_id, public_id)
    _check_enabled(row)
    return row


def _check_enabled(row: Endpoint) -> None:
    if not row.enabled:
        raise Problem(CONFLICT, "The endpoint is disabled: enable it first, with PATCH and `enabled` true.")


def load_delivery(session: Session, platform_id: UUID, public_id: str) -> Delivery:
    """The delivery of this id, its endpoint enabled. Raises Problem 404, or 409 where the endpoint is disabled."""
    id = decode(Prefix.DELIVERY, public_id)
    statement = select(Delivery).where(Delivery.id == id, Delivery.platform_id == platform_id)
    row = None if id is None else session.scalars(statement).first()
    if row is None:
        raise problems.not_found()
    _check_enabled(session.get_one(Endpoint, row.endpoint_id))
    return row


def delivery_object(session: Session, row: Delivery) -> dict[str, Any]:
    """The object of a delivery that nobody has tried yet."""
    return webhook_document.delivery(row, session.get_one(Event, row.event_id))


def endpoint_page(
    session: Session, platform_id: UUID, wanted: Paging, after: Position | None
) -> tuple[list[dict[str, Any]], Position | None]:
    """A page of endpoints, newest first, and where the next one begins."""
    statement = select(Endpoint).where(Endpoint.platform_id == platform_id)
    if after is not None:
        statement = statement.where(tuple_(Endpoint.created_at, Endpoint.id) < after)
    ordered = statement.order_by(Endpoint.created_at.desc(), Endpoint.id.desc()).limit(wanted.limit + 1)
    rows = session.scalars(ordered).all()
    last = rows[wanted.limit - 1] if len(rows) > wanted.limit else None
    next = None if last is None else (last.created_at, last.id)
    return [webhook_document.endpoint(row) for row in rows[: wanted.limit]], next


def delivery_page(
    session: Session, platform_id: UUID, public_id: str, wanted: DeliveryFilter, after: Position | None
) -> tuple[list[dict[str, Any]], Position | None]:
    """A page of an endpoint's deliveries with their logs, newest first, and where the next one begins."""
    endpoint = load_endpoint(session, platform_id, public_id)
    statement = select(Delivery, Event).join(Event).where(Delivery.endpoint_id == endpoint.id)
    if wanted.state is not None:
        statement = statement.where(Delivery.state == wanted.state)
    if wanted.type is not None:
        statement = statement.where(Event.type == wanted.type)
    if after is not None:
        statement = statement.where(tuple_(Delivery.created_at, Delivery.id) < after)
    ordered = statement.order_by(Delivery.created_at.desc(), Delivery.id.desc()).limit(wanted.limit + 1)
    rows = session.execute(ordered).all()
    kept = rows[: wanted.limit]
    logs = _logs(session, [row.id for row, _ in kept])
    next = (kept[-1][0].created_at, kept[-1][0].id) if len(rows) > wanted.limit else None
    return [webhook_document.delivery(row, event, logs[row.id]) for row, event in kept], next


def _logs(session: Session, ids: list[UUID]) -> dict[UUID, list[DeliveryAttempt]]:
    statement = select(DeliveryAttempt).where(DeliveryAttempt.delivery_id.in_(ids)).order_by(DeliveryAttempt.attempt)
    logs: dict[UUID, list[DeliveryAttempt]] = defaultdict(list)
    for row in session.scalars(statement):
        logs[row.delivery_id].append(row)
    return logs
