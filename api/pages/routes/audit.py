"""The audit page: who did what, whether the record still holds together, and the packs that defend a decision."""

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Query, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from api.dependencies import Using
from api.pages import frame
from api.pages.frame import Viewing
from api.reviewer_auth import one_platform
from screening import audit, trail
from screening.actors import Role
from screening.ids import Prefix, decode

router = frame.router()

PER_PAGE = 50
LONG = 24  # characters; what is longer is read by machines
CHECKED = 1_000  # of the newest entries on each look; the whole chain is the command line's

Text = Annotated[str | None, Query(max_length=100)]


@router.get("/audit")
async def show(
    request: Request,
    viewer: Viewing,
    services: Using,
    platform: str | None = None,
    subject: Text = None,
    kind: Text = None,
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
) -> Response:
    """The trail of one platform that the viewer leads, with the filters in the address."""
    names = frame.platforms(viewer, Role.LEAD)
    chosen = platform or frame.first(names)
    platform_id = one_platform(viewer, chosen, Role.LEAD)
    asked = {name: value.strip() for name, value in (("subject", subject), ("kind", kind)) if value and value.strip()}
    wanted = trail.Wanted(platform_id, before=before, limit=PER_PAGE + 1, **asked)
    rows, chain = await services.database.run(_read, wanted)
    return frame.page(
        request,
        viewer,
        "audit.html",
        names=names,
        chosen=chosen,
        asked=asked,
        kinds=trail.KINDS,
        rows=[_row(row) for row in rows[:PER_PAGE]],
        next_page=_next(rows, {**asked, "platform": chosen}),
        chain=chain,
        pack=_pack(asked.get("subject", "")),
    )


def _read(session: Session, wanted: trail.Wanted) -> tuple[list[dict[str, Any]], audit.Verification]:
    return trail.entries(session, wanted), audit.verify_newest(session, CHECKED)


def _next(rows: list[dict[str, Any]], asked: dict[str, str]) -> str | None:
    if len(rows) <= PER_PAGE:
        return None
    return "?" + urlencode({**asked, "before": rows[PER_PAGE - 1]["sequence"]})


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """An entry as a line: where its subject is shown, and its details as pairs, hashes and ids last."""
    details = row["details"]
    said = None if details is None else [(name, value) for name, value in details.items() if value is not None]
    if said is not None:
        said.sort(key=lambda pair: len(str(pair[1])) > LONG)
    return {**row, "href": _href(row["subject"]), "said": said, "pack": _pack(row["subject"]) if said else None}


def _href(subject: str) -> str | None:
    pages = {Prefix.REVIEW: "/reviews/", Prefix.SCREENING: "/screenings/"}
    return next((f"{page}{subject}" for prefix, page in pages.items() if decode(prefix, subject) is not None), None)


def _pack(subject: str) -> str | None:
    """Where the evidence of a review is downloaded."""
    return None if decode(Prefix.REVIEW, subject) is None else f"/v1/reviews/{subject}/evidence"
