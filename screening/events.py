"""How does a platform come to hear of something? By rows written in the very transaction that made it true.

`emit` inserts the event and one delivery for each endpoint that wants it. Sending is somebody else's work, done from
the rows, so a crash between commit and send loses nothing.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session, joinedload

from screening import document, inserting
from screening.ids import uuid7
from screening.settings import settings
from screening.tables import Event, Screening, State

COMPLETED = "screening.completed"
FAILED = "screening.failed"

# In order of the endpoints, as `deliveries_sql.RECORD` locks them: inserting a delivery locks its endpoint's key.
EMIT = text("""
WITH made AS (
    INSERT INTO events (id, platform_id, screening_id, type, data)
    SELECT * FROM jsonb_to_recordset(CAST(:events AS jsonb))
               AS e (id uuid, platform_id uuid, screening_id uuid, type text, data jsonb)
 RETURNING id, platform_id, type
)
INSERT INTO deliveries (event_id, endpoint_id, platform_id)
SELECT m.id, e.id, e.platform_id
  FROM made m JOIN endpoints e ON e.platform_id = m.platform_id
 WHERE e.enabled AND (e.types = '{}' OR m.type = ANY(e.types))
 ORDER BY e.id, m.id
""")


def emit(
    session: Session, *, platform_id: UUID, type: str, data: dict[str, Any], screening_id: UUID | None = None
) -> Event:
    """Write one event and its deliveries in the caller's transaction."""
    event = Event(id=uuid7(), platform_id=platform_id, screening_id=screening_id, type=type, data=data)
    _emit(session, [event])
    return event


def _emit(session: Session, events: Sequence[Event]) -> None:
    session.flush()  # what the caller has changed of endpoints counts
    names = ("id", "platform_id", "screening_id", "type", "data")
    if rows := [{name: getattr(event, name) for name in names} for event in events]:
        session.execute(EMIT, {"events": inserting.as_json(rows)})


def screenings_ended(session: Session, screening_ids: Iterable[UUID]) -> None:
    """Write the one event of each terminal state; the database refuses a second."""
    if not (ids := list(screening_ids)):
        return  # as in nearly every sweep, which need not join five tables for nothing
    statement = (
        select(Screening)
        .where(Screening.id.in_(ids))
        .options(*map(joinedload, (Screening.submission, Screening.image, Screening.finding, Screening.review)))
        .execution_options(populate_existing=True)
    )
    _emit(session, [_ended(row) for row in session.scalars(statement)])


def _ended(row: Screening) -> Event:
    return Event(
        id=uuid7(),
        platform_id=row.platform_id,
        screening_id=row.id,
        type=COMPLETED if row.state == State.SUCCEEDED else FAILED,
        data=document.screening(row, settings()),
    )
