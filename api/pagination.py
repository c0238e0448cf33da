"""How does a list say where it goes on? By `next_cursor` in the body and `rel="next"` in a Link header (RFC 8288)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi.responses import JSONResponse, Response

from api.cursors import Cursors
from api.schemas.screening_list import Paging


def scope(name: str, platform_id: UUID, wanted: Paging) -> dict[str, Any]:
    """What a cursor is bound to: the list, the platform and the filters, but not the size of a page."""
    return {"list": name, "platform": platform_id.hex, **asked(wanted, leave=("cursor", "limit"))}


def asked(wanted: Paging, leave: tuple[str, ...] = ("cursor",)) -> dict[str, Any]:
    """The parameters that were given, as text."""
    given = wanted.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return {name: value for name, value in given.items() if name not in leave}


def position(cursors: Cursors, bound_to: Mapping[str, Any], wanted: Paging) -> tuple[datetime, UUID] | None:
    """Where the page begins; None at the start. Raises Problem 400 for a cursor that is not of this list."""
    return None if wanted.cursor is None else cursors.decode(bound_to, wanted.cursor)


def response(
    data: list[dict[str, Any]], *, url: str, wanted: Paging, cursor: str | None, headers: dict[str, str] | None = None
) -> Response:
    """A page: `{"object": "list", "data": [...], "next_cursor": ...}`. `url` is absolute, without a query."""
    given = dict(headers or {})
    if cursor is not None:
        given["Link"] = f'<{url}?{urlencode({**asked(wanted), "cursor": cursor})}>; rel="next"'
    return JSONResponse({"object": "list", "data": data, "next_cursor": cursor}, headers=given)
