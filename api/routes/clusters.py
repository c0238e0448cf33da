"""Near-duplicates that wait: look at them together, decide them together, take that back together."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.dependencies import Using
from api.problems import invalid, not_found
from api.reviewer_auth import Acting, Viewer
from api.routes.reviews import PRIVATE, ChoiceRequest, review_of
from screening import board, bulk, neighbourhood, reviews
from screening.actors import Actor
from screening.decisions import Choice
from screening.ids import Prefix, decode, encode
from screening.similar import Near
from screening.tables import Image, Review

router = APIRouter(tags=["reviews"])


class BulkRequest(ChoiceRequest):
    """One choice for a whole cluster: first as a dry run, then for exactly what that showed."""

    dry_run: bool
    digest: Annotated[str, Field(min_length=64, max_length=64)] | None = None


@router.get("/v1/reviews/{review_id}/cluster")
async def get_cluster(review_id: str, viewer: Acting, services: Using) -> Response:
    """Pending reviews of images that look like this one, also turned or mirrored; at most 500."""
    near = await services.neighbours.near(viewer.actor, review_of(review_id))
    body = await services.database.run(_cluster, viewer, review_of(review_id), near)
    return JSONResponse(body, headers=PRIVATE)


def _cluster(session: Session, viewer: Viewer, review_id: UUID, near: Sequence[Near]) -> dict[str, Any]:
    review = reviews.visible(session, viewer.actor, review_id)
    return _shown(session, viewer, neighbourhood.cluster(session, review, near))


def _shown(session: Session, viewer: Viewer, rows: Sequence[tuple[Review, Near]]) -> dict[str, Any]:
    ids = [row.screening_id for row, _ in rows]
    images = {i.screening_id: i for i in session.scalars(select(Image).where(Image.screening_id.in_(ids)))}
    data = [
        {
            **board.summary(row, images.get(row.screening_id), viewer.platforms[row.platform_id], viewer.actor),
            "distance": near.distance,
            "transform": near.transform,
        }
        for row, near in rows
    ]
    full = len(rows) >= neighbourhood.MOST_TOGETHER
    return {"data": data, "count": len(rows), "is_minimum": full, "digest": bulk.digest(rows)}


@router.post("/v1/reviews/{review_id}/bulk")
async def decide_cluster(review_id: str, asked: BulkRequest, viewer: Acting, services: Using) -> Response:
    """Decide near-duplicates together; for leads. A dry run says how many and which, and changes nothing."""
    identity = review_of(review_id)
    near = await services.neighbours.near(viewer.actor, identity)
    if asked.dry_run:
        return JSONResponse(await services.database.run(_dry_run, viewer, identity, near), headers=PRIVATE)
    if asked.digest is None:
        raise invalid("/digest", "Send the digest of a dry run.")
    body = await services.database.run(_bulk, viewer.actor, identity, near, asked.choice(), asked.digest)
    return JSONResponse(body, headers=PRIVATE)


def _dry_run(session: Session, viewer: Viewer, review_id: UUID, near: Sequence[Near]) -> dict[str, Any]:
    return _shown(session, viewer, bulk.members(session, viewer.actor, review_id, near))


def _bulk(
    session: Session, actor: Actor, review_id: UUID, near: Sequence[Near], choice: Choice, shown: str
) -> dict[str, Any]:
    bulk_id, count = bulk.decide(session, actor, review_id, near, choice, shown=shown)
    return {"bulk_id": encode(Prefix.DECISION, bulk_id), "count": count}


@router.post("/v1/reviews/bulk/{bulk_id}/undo")
async def undo_bulk(bulk_id: str, viewer: Acting, services: Using) -> Response:
    """Take back every decision of a bulk whose window is still open."""
    identity = decode(Prefix.DECISION, bulk_id)
    if identity is None:
        raise not_found()
    return JSONResponse({"count": await services.database.run(bulk.undo, viewer.actor, identity)}, headers=PRIVATE)
