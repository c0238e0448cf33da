"""Probes: is the process alive, and can it do its work?"""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from api import health, problems
from api.dependencies import Using

router = APIRouter(tags=["operations"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """Whether the process answers at all."""
    return {"status": "alive"}


@router.get("/readyz")
async def readyz(request: Request, services: Using) -> Response:
    """Whether requests can be served: database, migrations and blob store. Redis is reported, not required."""
    checks = await request.app.state.readiness.checks(services)
    if health.ready(checks):
        return JSONResponse({"status": "ready", "checks": checks})
    body = problems.document(
        problems.UNAVAILABLE, "Not ready; see checks.", problems.request_id(request), request.url.path
    )
    return JSONResponse({**body, "checks": checks}, 503, {"Retry-After": "2"}, problems.MEDIA_TYPE)
