"""Golden items: images whose truth is known, mixed in to measure reviewers."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import Field
from sqlalchemy.orm import Session

from api.dependencies import Using
from api.problems import not_found
from api.reviewer_auth import Acting, PlatformQuery, one_platform
from api.schemas.fields import Body
from screening import goldens
from screening.actors import Actor, Role
from screening.document import timestamp
from screening.ids import Prefix, decode, encode
from screening.tables import Golden

router = APIRouter(tags=["goldens"])


class GoldenRequest(Body):
    """Whose truth is known, and what it is."""

    screening: Annotated[str, Field(max_length=100)]
    truth: Literal["authentic", "fake"]


def _screening(id: str) -> UUID:
    screening_id = decode(Prefix.SCREENING, id)
    if screening_id is None:
        raise not_found()
    return screening_id


def _shown(row: Golden) -> dict[str, Any]:
    screening = encode(Prefix.SCREENING, row.screening_id)
    return {"screening": screening, "truth": row.truth, "by": row.alias, "created_at": timestamp(row.created_at)}


@router.get("/v1/goldens")
async def list_goldens(viewer: Acting, services: Using, platform: PlatformQuery = None) -> Response:
    """The newest two hundred; for leads."""
    platform_id = one_platform(viewer, platform, Role.LEAD)
    return JSONResponse({"data": await services.database.run(_list, platform_id)})


def _list(session: Session, platform_id: UUID) -> list[dict[str, Any]]:
    return [_shown(row) for row in session.scalars(goldens.of(platform_id))]


@router.post("/v1/goldens", status_code=201)
async def add_golden(asked: GoldenRequest, viewer: Acting, services: Using) -> Response:
    """Declare the truth of a screening known; for leads."""
    body = await services.database.run(_add, viewer.actor, _screening(asked.screening), asked.truth)
    return JSONResponse(body, 201)


def _add(session: Session, actor: Actor, screening_id: UUID, truth: str) -> dict[str, Any]:
    return _shown(goldens.add(session, actor, screening_id, truth))


@router.delete("/v1/goldens/{screening_id}", status_code=204)
async def remove_golden(screening_id: str, viewer: Acting, services: Using) -> Response:
    """Ask no more about it; for leads."""
    await services.database.run(goldens.remove, viewer.actor, _screening(screening_id))
    return Response(status_code=204)
