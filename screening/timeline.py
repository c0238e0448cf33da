"""What happened to one screening, step by step?

Built from rows that were written when it happened: acceptance, attempts, events, deliveries, feedback. What reviewers
decided is read from its event alone, which is written when a decision is final, so a second reviewer learns nothing of
the first one's here.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from screening.actors import Actor
from screening.document import timestamp
from screening.tables import Attempt, Delivery, Endpoint, Event, Feedback, Screening

WORDS = {
    "screening.completed": "Finding recorded",
    "screening.failed": "Failed",
    "review.decided": "Review decided",
    "review.escalated": "Review escalated",
    "decision.reversed": "Decision reversed",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the story."""

    at: datetime
    what: str
    detail: str = ""


def timeline(session: Session, actor: Actor, platform_id: UUID, screening_id: UUID) -> list[dict[str, Any]]:
    """Every step, oldest first. Raises NotGrantedError where the actor has no grant on the platform."""
    actor.grant(platform_id)
    steps = [
        *_acceptance(session, screening_id),
        *_attempts(session, screening_id),
        *_events(session, screening_id),
        *_deliveries(session, screening_id),
        *_feedback(session, screening_id),
    ]
    ordered = sorted(steps, key=lambda step: step.at)
    return [{"at": timestamp(step.at), "what": step.what, "detail": step.detail} for step in ordered]


def _acceptance(session: Session, screening_id: UUID) -> list[Step]:
    row = session.get_one(Screening, screening_id)
    steps = [Step(row.created_at, "Accepted", f"priority {row.priority}")]
    if row.erased_at is not None:
        steps.append(Step(row.erased_at, "Erased"))
    return steps


def _attempts(session: Session, screening_id: UUID) -> list[Step]:
    rows = session.scalars(select(Attempt).where(Attempt.screening_id == screening_id))
    steps = []
    for row in rows:
        alone = ", alone" if row.alone else ""
        steps.append(Step(row.started_at, f"Attempt {row.attempt} began", f"worker {row.worker}{alone}"))
        if row.ended_at is not None and row.outcome not in ("succeeded", "failed"):
            steps.append(Step(row.ended_at, f"Attempt {row.attempt} {row.outcome}", row.detail or ""))
    return steps


def _events(session: Session, screening_id: UUID) -> list[Step]:
    rows = session.scalars(select(Event).where(Event.screening_id == screening_id))
    return [Step(row.created_at, WORDS.get(row.type, row.type), _said(row.data)) for row in rows]


def _said(data: dict[str, Any]) -> str:
    verdict, error = data.get("verdict"), data.get("error")
    if isinstance(verdict, dict):
        return f"{verdict.get('label')}, score {verdict.get('score', 0):.2f}"
    if isinstance(error, dict):
        return str(error.get("detail") or error.get("code") or "")
    return verdict if isinstance(verdict, str) else ""


def _deliveries(session: Session, screening_id: UUID) -> list[Step]:
    statement = (
        select(Delivery, Event.type, Endpoint.url)
        .join(Event, Event.id == Delivery.event_id)
        .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
        .where(Event.screening_id == screening_id)
    )
    return [
        Step(delivery.delivered_at or delivery.created_at, f"Webhook {kind} {delivery.state}", url)
        for delivery, kind, url in session.execute(statement)
    ]


def _feedback(session: Session, screening_id: UUID) -> list[Step]:
    rows = session.scalars(select(Feedback).where(Feedback.screening_id == screening_id))
    return [Step(row.created_at, f"The platform says: {row.truth}", row.note or "") for row in rows]
