"""Screenings: send one, read one."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy.orm import Session

from api import idempotency, intake, screenings
from api.auth import Admission
from api.dependencies import Reader, Using, Writer
from api.metrics import ACCEPTED
from api.prefer import wait_seconds
from api.services import Services
from api.spool import Spool
from api.trace_context import traceparent
from screening import document
from screening.ids import Prefix, decode
from screening.settings import Settings

router = APIRouter(tags=["screenings"])


@router.post("/v1/screenings", status_code=202)
async def create_screening(request: Request, caller: Writer, services: Using) -> Response:
    """Send one image to be screened: a form with the file, or JSON that names a URL or an object."""
    keyless = idempotency.key_of(request) is None
    if keyless:  # a replay is answered whatever the queue, and only the whole body tells whether this is one
        await services.backpressure.check()
    with Spool(services.settings.max_bytes, services.settings.spool_dir) as spool:
        submitted = await intake.read(request, services, spool)
        keyed = idempotency.request_of(request, caller.platform.id, submitted.fingerprint, services.settings)
        trace = traceparent(request.headers.get("traceparent"))
        answer = await intake.accept(services, caller, submitted, keyed, trace)
    ACCEPTED.labels(source="file" if submitted.spool else "reference").inc()
    seconds = wait_seconds(request.headers.get("prefer"), services.settings.wait_seconds_max)
    if seconds and answer.body is not None:
        finished = await _wait(services, caller, str(answer.body["id"]), seconds)
        if finished is not None:
            applied = {"Preference-Applied": f"wait={seconds}", "Location": answer.headers["Location"]}
            return JSONResponse(finished, headers=applied)
    return idempotency.response(answer)


async def _wait(services: Services, caller: Admission, id: str, seconds: int) -> dict[str, Any] | None:
    """The screening once it has ended, or None when time ran out first."""
    screening_id = decode(Prefix.SCREENING, id)
    if screening_id is None or not await services.waiting.ended(screening_id, seconds):
        return None
    return await services.database.run(_read, caller, id, services.settings)


def _read(session: Session, caller: Admission, id: str, settings: Settings) -> dict[str, Any]:
    return document.screening(screenings.load(session, caller.platform.id, id), settings)


@router.get("/v1/screenings/{screening_id}")
async def get_screening(screening_id: str, caller: Reader, services: Using) -> Response:
    """One screening, whatever its state."""
    return JSONResponse(await services.database.run(_read, caller, screening_id, services.settings))
