"""Looking for screenings, with the filters in the address, and one screening with its whole story."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Query, Request
from fastapi.responses import Response
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import files, listing, overlay, pagination, screenings
from api.dependencies import Using
from api.pages import frame
from api.pages.frame import Viewing
from api.problems import not_found
from api.reviewer_auth import one_platform
from api.schemas.screening_list import ScreeningFilter
from api.services import Services
from screening import document, timeline
from screening.ids import Prefix, decode
from screening.tables import Screening

router = frame.router()

PER_PAGE = 24
FIELDS = ("state", "label", "outcome", "min_score", "max_score", "client_ref", "sha256", "cursor")
Search = Annotated[str | None, Query(max_length=512)]


@router.get("/screenings")
async def search(request: Request, viewer: Viewing, services: Using, platform: str | None = None) -> Response:
    """A page of screenings of one platform; the first granted one unless another is named."""
    names = frame.platforms(viewer)
    if not names:
        return frame.page(request, viewer, "screenings.html", **_nothing(names))
    chosen = platform if platform is not None else next(iter(names))
    platform_id = one_platform(viewer, chosen)
    asked = {name: request.query_params[name] for name in FIELDS if request.query_params.get(name)}
    try:
        wanted = ScreeningFilter.model_validate({**asked, "limit": PER_PAGE})
    except ValidationError as error:
        return frame.page(request, viewer, "screenings.html", **_nothing(names, asked, chosen, error))
    scope = pagination.scope("page", platform_id, wanted)
    after = pagination.position(services.cursors, scope, wanted)
    found = await services.database.run(listing.page, platform_id, wanted, after)
    further = None if found.next is None else services.cursors.encode(scope, *found.next)
    rows = [document.screening(row, services.settings) for row in found.rows]
    next_page = None if further is None else "?" + urlencode({**asked, "platform": chosen, "cursor": further})
    context = {"names": names, "chosen": chosen, "asked": asked, "rows": rows, "next_page": next_page, "error": ""}
    return frame.page(request, viewer, "screenings.html", **context)


def _nothing(
    names: dict[str, str], asked: dict[str, str] | None = None, chosen: str = "", error: ValidationError | None = None
) -> dict[str, Any]:
    said = "" if error is None else f"{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}"
    return {"names": names, "chosen": chosen, "asked": asked or {}, "rows": [], "next_page": None, "error": said}


def find(session: Session, platforms: list[UUID], public_id: str) -> Screening:
    """The screening on one of these platforms. Raises Problem 404, and 410 once erased."""
    id = decode(Prefix.SCREENING, public_id)
    owner = None if id is None else session.scalar(select(Screening.platform_id).where(Screening.id == id))
    if owner not in platforms:
        raise not_found()
    return screenings.load(session, owner, public_id)


async def _found(viewer: Viewing, services: Services, public_id: str) -> Screening:
    return await services.database.run(find, list(viewer.platforms), public_id)


@router.get("/screenings/{screening_id}")
async def one(request: Request, viewer: Viewing, services: Using, screening_id: str) -> Response:
    """The finding, and what happened when."""
    row = await _found(viewer, services, screening_id)
    story = await services.database.run(_story, viewer, row)
    shown = document.screening(row, services.settings)
    platform = viewer.platforms[row.platform_id]
    return frame.page(request, viewer, "screening.html", row=shown, story=story, platform=platform)


def _story(session: Session, viewer: Viewing, row: Screening) -> list[dict[str, Any]]:
    return timeline.timeline(session, viewer.actor, row.platform_id, row.id)


@router.get("/screenings/{screening_id}/{part}.bytes")
async def picture(request: Request, viewer: Viewing, services: Using, screening_id: str, part: str) -> Response:
    """The overlay, mask or heat map, for whoever may see the screening."""
    row = await _found(viewer, services, screening_id)
    serve = PARTS.get(part)
    if serve is None or row.image is None or row.finding is None:
        raise not_found()
    return await serve(request, services, row)


async def _overlay(request: Request, services: Services, row: Screening) -> Response:
    assert row.image is not None  # noqa: S101 - checked by `picture`
    assert row.finding is not None  # noqa: S101
    return await overlay.serve(request, services, row.image, row.finding)


async def _mask(request: Request, services: Services, row: Screening) -> Response:
    assert row.finding is not None  # noqa: S101 - checked by `picture`
    return await files.serve(
        request, services.blobs, row.finding.mask_key, etag=row.finding.mask_sha256.hex(), media_type="image/png"
    )


async def _heatmap(request: Request, services: Services, row: Screening) -> Response:
    assert row.finding is not None  # noqa: S101 - checked by `picture`
    return await files.serve(
        request, services.blobs, row.finding.heatmap_key, etag=row.finding.heatmap_sha256.hex(), media_type="image/png"
    )


PARTS: dict[str, Callable[[Request, Services, Screening], Coroutine[Any, Any, Response]]] = {
    "overlay": _overlay,
    "mask": _mask,
    "heatmap": _heatmap,
}
