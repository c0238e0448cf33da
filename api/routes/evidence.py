"""What a decision can be defended with: the audit trail, and a pack that verifies offline."""

import json
import tempfile
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response, StreamingResponse
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool

from api.dependencies import Using
from api.reviewer_auth import Acting, PlatformQuery, one_platform
from api.routes.reviews import PRIVATE, review_of
from screening import evidence
from screening.actors import Role
from screening.document import timestamp
from screening.ids import Prefix, decode
from screening.tables import AuditEntry, Review, ReviewState

router = APIRouter(tags=["audit"])

CHUNK = 1 << 16


@router.get("/v1/reviews/{review_id}/evidence")
async def get_evidence(review_id: str, viewer: Acting, services: Using) -> Response:
    """A zip of everything about a decided review; `assay admin verify-evidence` checks it anywhere."""
    collected = await services.database.run(evidence.collect, viewer.actor, review_of(review_id))
    file = tempfile.TemporaryFile(dir=services.settings.spool_dir)  # noqa: SIM115 - closed when the answer has been sent
    try:
        await run_in_threadpool(evidence.pack, collected, services.blobs, file)
    except BaseException:
        file.close()
        raise
    size = file.tell()
    file.seek(0)

    async def chunks() -> Any:
        with file:
            async for chunk in iterate_in_threadpool(iter(lambda: file.read(CHUNK), b"")):
                yield chunk

    headers = {**PRIVATE, "Content-Length": str(size), "Content-Disposition": f'attachment; filename="{review_id}.zip"'}
    return StreamingResponse(chunks(), media_type="application/zip", headers=headers)


@router.get("/v1/audit")
async def get_audit(
    viewer: Acting,
    services: Using,
    platform: PlatformQuery = None,
    subject: Annotated[str | None, Query(max_length=100)] = None,
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:
    """What was done on a platform, newest first; `before` is the last sequence already seen. For leads."""
    platform_id = one_platform(viewer, platform, Role.LEAD)
    return JSONResponse(
        {"data": await services.database.run(_audit, platform_id, subject, before, limit)}, headers=PRIVATE
    )


def _audit(
    session: Session, platform_id: UUID, subject: str | None, before: int | None, limit: int
) -> list[dict[str, Any]]:
    statement = select(AuditEntry).where(AuditEntry.platform_id == platform_id)
    if subject is not None:
        statement = statement.where(AuditEntry.subject == subject)
    if before is not None:
        statement = statement.where(AuditEntry.sequence < before)
    rows = session.scalars(statement.order_by(AuditEntry.sequence.desc()).limit(limit)).all()
    open_reviews = _open(session, rows)
    return [_shown(row, hidden=row.subject in open_reviews) for row in rows]


def _open(session: Session, rows: Any) -> set[str]:
    """Subjects of undecided reviews: what was decided first is nobody's to read while a second decision is due."""
    ids = {row.subject: decode(Prefix.REVIEW, row.subject) for row in rows}
    wanted = [i for i in ids.values() if i is not None]
    decided = set(session.scalars(select(Review.id).where(Review.id.in_(wanted), Review.state == ReviewState.DECIDED)))
    return {subject for subject, i in ids.items() if i is not None and i not in decided}


def _shown(row: AuditEntry, *, hidden: bool) -> dict[str, Any]:
    """An entry without its hashes, from which the few possible contents of a hidden one could be told."""
    details = None if hidden else json.loads(row.details)
    actor = None if hidden else row.actor
    return {
        "sequence": row.sequence,
        "at": timestamp(row.at),
        "actor": actor,
        "action": row.action,
        "subject": row.subject,
        "details": details,
    }
