"""What a decision can be defended with: the audit trail, and a pack that verifies offline."""

import tempfile
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool

from api.dependencies import Using
from api.reviewer_auth import Acting, PlatformQuery, one_platform
from api.routes.reviews import PRIVATE, review_of
from screening import evidence, trail
from screening.actors import Role

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
    kind: Annotated[str | None, Query(max_length=50, description="What stands before an action's dot")] = None,
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:
    """What was done on a platform, newest first; `before` is the last sequence already seen. For leads."""
    wanted = trail.Wanted(one_platform(viewer, platform, Role.LEAD), subject, kind, before, limit)
    return JSONResponse({"data": await services.database.run(trail.entries, wanted)}, headers=PRIVATE)
