"""How good are policy and people?"""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response

from api.dependencies import Using
from api.reviewer_auth import Acting, PlatformQuery, one_platform
from screening import quality
from screening.actors import Role

router = APIRouter(tags=["quality"])


@router.get("/v1/quality")
async def get_quality(
    viewer: Acting,
    services: Using,
    platform: PlatformQuery = None,
    days: Annotated[int, Query(ge=1, le=365)] = 30,
) -> Response:
    """Precision of queues and of what happens without people, agreement, overturns, pace, exposure; for leads."""
    platform_id = one_platform(viewer, platform, Role.LEAD)
    body = await services.database.run(quality.quality, platform_id, days=days)
    return JSONResponse(body, headers={"Cache-Control": "private, no-store"})
