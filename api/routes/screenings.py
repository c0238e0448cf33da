"""Screenings: send one, read one, list them, erase one."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import idempotency, intake, listing, pagination, screenings
from api.auth import Admission
from api.dependencies import Reader, Using, Writer
from api.metrics import ACCEPTED
from api.prefer import wait_seconds
from api.problems import UNAVAILABLE, Problem
from api.schemas.screening import (
    ACCEPTED_RESPONSE,
    ERASED_RESPONSE,
    FINISHED_RESPONSE,
    ScreeningObject,
    ScreeningPage,
)
from api.schemas.screening_list import ScreeningFilter
from api.services import Services
from api.spool import Spool
from api.trace_context import traceparent
from screening import audit, blobs, document, jobs
from screening.errors import BlobStoreError
from screening.ids import Prefix, decode
from screening.settings import Settings

router = APIRouter(tags=["screenings"])
URL = "/v1/screenings"


@router.post(URL, status_code=202, responses={202: ACCEPTED_RESPONSE, 200: FINISHED_RESPONSE})
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


@router.get(URL, responses={200: {"model": ScreeningPage}})
async def list_screenings(wanted: Annotated[ScreeningFilter, Query()], caller: Reader, services: Using) -> Response:
    """The platform's screenings, newest first. Erased ones are not among them."""
    bound_to = pagination.scope("screenings", caller.platform.id, wanted)
    after = pagination.position(services.cursors, bound_to, wanted)
    data, next = await services.database.run(_page, caller, wanted, after, services.settings)
    cursor = None if next is None else services.cursors.encode(bound_to, *next)
    return pagination.response(data, url=f"{services.settings.public_url}{URL}", wanted=wanted, cursor=cursor)


def _page(
    session: Session, caller: Admission, wanted: ScreeningFilter, after: listing.Position | None, settings: Settings
) -> tuple[list[dict[str, Any]], listing.Position | None]:
    found = listing.page(session, caller.platform.id, wanted, after)
    return [document.screening(row, settings) for row in found.rows], found.next


@router.get(URL + "/{screening_id}", responses={200: {"model": ScreeningObject}, 410: ERASED_RESPONSE})
async def get_screening(screening_id: str, caller: Reader, services: Using) -> Response:
    """One screening, whatever its state."""
    return JSONResponse(await services.database.run(_read, caller, screening_id, services.settings))


@router.delete(URL + "/{screening_id}", status_code=204)
async def erase_screening(screening_id: str, caller: Writer, services: Using) -> Response:
    """Erase the bytes and all that was derived from them. An audit stub is kept; a second time is no error."""
    prefix = await services.database.run(_erase, caller, screening_id)
    try:
        await run_in_threadpool(_remove_bytes, services, prefix)
    except BlobStoreError as error:
        raise Problem(
            UNAVAILABLE,
            "The screening is erased and its bytes will be removed, but the storage did not answer just now.",
            headers={"Retry-After": "30"},
        ) from error
    return Response(status_code=204)


def _erase(session: Session, caller: Admission, id: str) -> str:
    row = screenings.load_erased(session, caller.platform.id, id)
    if row.erased_at is None:
        jobs.erase(session, row)
        audit.append(session, actor=caller.actor, action="screening.erased", subject=id, platform_id=row.platform_id)
    return blobs.screening_prefix(row.platform_id, row.id)


def _remove_bytes(services: Services, prefix: str) -> None:
    services.blobs.delete(services.blobs.keys(prefix))
