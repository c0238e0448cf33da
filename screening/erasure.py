"""What is left of an erased screening? A stub for the audit: that it was, when, what the verdict was and who acted.

Gone are the bytes' description, what the file said of itself (its position too), what the platform sent along, where in
the image something was found, and notes; also from events, so that a delivery which is still due says no more than the
stub.
"""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

_SCRUB = (
    "DELETE FROM images WHERE screening_id = :id",
    "DELETE FROM provenances WHERE screening_id = :id",
    "UPDATE submissions SET metadata = '{}', source = NULL, filename = NULL WHERE screening_id = :id",
    "DELETE FROM provenances WHERE screening_id = :id",
    "UPDATE findings SET regions = '[]' WHERE screening_id = :id",
    "UPDATE feedback SET note = NULL WHERE screening_id = :id",
    """UPDATE events
          SET data = data || '{"client_ref": null, "metadata": {}, "image": null, "localization": null}'
        WHERE screening_id = :id AND type IN ('screening.completed', 'screening.failed')""",
    """UPDATE events SET data = data || '{"client_ref": null}'
        WHERE screening_id = :id AND data ->> 'client_ref' <> ''""",
    "UPDATE decisions SET note = NULL WHERE review_id IN (SELECT id FROM reviews WHERE screening_id = :id)",
    # Replays would say it all again.
    """UPDATE idempotency_records
          SET body = body || '{"client_ref": null, "metadata": {}, "image": null}'
        WHERE platform_id = (SELECT platform_id FROM screenings WHERE id = :id) AND body ->> 'id' = :public_id""",
    """UPDATE idempotency_records SET body = body || '{"note": null}'
        WHERE platform_id = (SELECT platform_id FROM screenings WHERE id = :id)
          AND body ->> 'screening_id' = :public_id""",
)


def scrub(session: Session, screening_id: UUID, public_id: str) -> None:
    """Empty every row that describes the image or repeats what was sent. Call it with the job row locked."""
    for statement in _SCRUB:
        session.execute(text(statement), {"id": screening_id, "public_id": public_id})
