"""How does a platform come to hear of something? By rows written in the very transaction that made it true.

`emit` inserts the event and one delivery for each endpoint that wants it. Sending is somebody else's work, done from
the rows, so a crash between commit and send loses nothing.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session, selectinload

from screening import document
from screening.settings import settings
from screening.tables import Event, Screening, State

COMPLETED = "screening.completed"
FAILED = "screening.failed"

DELIVER = """
INSERT INTO deliveries (event_id, endpoint_id, platform_id)
SELECT :event, id, platform_id FROM endpoints
 WHERE platform_id = :platform AND enabled AND (types = '{}' OR :type = ANY(types))
"""


def emit(
    session: Session, *, platform_id: UUID, type: str, data: dict[str, Any], screening_id: UUID | None = None
) -> Event:
    """Write one event and its deliveries in the caller's transaction."""
    event = Event(platform_id=platform_id, type=type, data=data, screening_id=screening_id)
    session.add(event)
    session.flush()
    session.execute(text(DELIVER), {"event": event.id, "platform": platform_id, "type": type})
    return event


def screening_ended(session: Session, screening_id: UUID) -> Event:
    """Write the one event of a terminal state; the database refuses a second."""
    statement = (
        select(Screening)
        .where(Screening.id == screening_id)
        .options(selectinload(Screening.submission), selectinload(Screening.image), selectinload(Screening.finding))
        .execution_options(populate_existing=True)
    )
    row = session.scalars(statement).one()
    return emit(
        session,
        platform_id=row.platform_id,
        type=COMPLETED if row.state == State.SUCCEEDED else FAILED,
        data=document.screening(row, settings()),
        screening_id=row.id,
    )
