"""Feedback: what a platform says the truth was."""

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from api import idempotency, screenings
from api.dependencies import Using, Writer
from api.schemas.feedback import FeedbackObject, NewFeedback
from screening import document
from screening.idempotency import Answer
from screening.ids import Prefix, encode
from screening.tables import Feedback

router = APIRouter(tags=["screenings"])


@router.post("/v1/screenings/{screening_id}/feedback", status_code=201, responses={201: {"model": FeedbackObject}})
async def give_feedback(
    screening_id: str, body: NewFeedback, request: Request, caller: Writer, services: Using
) -> Response:
    """Say what the image really is. Several may come; the latest counts."""

    def work(session: Session) -> Answer:
        row = screenings.load(session, caller.platform.id, screening_id)
        given = Feedback(screening_id=row.id, truth=body.truth, note=body.note)
        session.add(given)
        session.flush()
        return Answer(201, {}, _object(given))

    return await idempotency.once(request, services, caller.platform.id, body, work)


def _object(row: Feedback) -> dict[str, object]:
    return {
        "id": encode(Prefix.FEEDBACK, row.id),
        "object": "feedback",
        "screening_id": encode(Prefix.SCREENING, row.screening_id),
        "truth": row.truth,
        "note": row.note,
        "created_at": document.timestamp(row.created_at),
    }
