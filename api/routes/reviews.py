"""The review queue: what waits, taking an item, deciding it, taking that back."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field
from sqlalchemy.orm import Session

from api.dependencies import Using
from api.problems import not_found
from api.reviewer_auth import Acting, PlatformQuery, Viewer, some_platforms
from api.schemas.fields import Body, Text
from api.services import Services
from screening import board, case, decisions, exposure, goldens, provenance, reviews
from screening.actors import Actor
from screening.board import Wanted
from screening.decisions import Choice
from screening.document import timestamp
from screening.ids import Prefix, decode
from screening.tables import Review

router = APIRouter(tags=["reviews"])

PRIVATE = {"Cache-Control": "private, no-store"}
Token = Annotated[str, Field(min_length=1, max_length=100)]


class ClaimRequest(Body):
    """Where to look for the next item; nothing means everywhere."""

    platform: Annotated[str, Field(max_length=100)] | None = None
    queue: Annotated[Text, Field(max_length=100)] | None = None


class LeaseRequest(Body):
    """The token that the claim handed out."""

    lease_token: Token


class SkipRequest(LeaseRequest):
    """Why somebody else should look."""

    reason: Literal["unclear", "not_my_language", "disturbing", "technical", "other"]


class EscalationRequest(LeaseRequest):
    """What a lead should know."""

    reason: Annotated[Text, Field(min_length=1, max_length=500)]


class ChoiceRequest(Body):
    """A verdict, and what follows from it; without an action, fake blocks and authentic allows."""

    verdict: Literal["authentic", "fake"]
    action: Literal["allow", "label", "block"] | None = None
    reason: Annotated[Text, Field(max_length=64)] | None = None
    note: Annotated[Text, Field(max_length=2_000)] | None = None

    def choice(self) -> Choice:
        """As the kernel takes it."""
        return Choice(self.verdict, self.action, self.reason, self.note or None)


class DecisionRequest(ChoiceRequest):
    """A decision under a lease."""

    lease_token: Token
    mask_feedback: Literal["right", "wrong"] | None = None

    def choice(self) -> Choice:
        """As the kernel takes it."""
        return Choice(self.verdict, self.action, self.reason, self.note or None, self.mask_feedback)


class ReversalRequest(ChoiceRequest):
    """A later decision that replaces the one that stands; it must say why."""

    note: Annotated[Text, Field(min_length=1, max_length=2_000)]


class ExposureRequest(Body):
    """For how long the unveiled image has been on screen since the last report."""

    seconds: Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)]


def review_of(id: str) -> UUID:
    """The UUID of a review's id. Raises Problem 404."""
    review_id = decode(Prefix.REVIEW, id)
    if review_id is None:
        raise not_found()
    return review_id


@router.get("/v1/reviews/board")
async def get_board(viewer: Acting, services: Using, platform: PlatformQuery = None) -> Response:
    """Each queue with something pending: how many, the oldest, the next to fall due; and what you hold."""
    wanted = some_platforms(viewer, platform)
    await services.database.run(decisions.tend)
    return JSONResponse(await services.database.run(board.board, viewer.actor, wanted), headers=PRIVATE)


@router.get("/v1/reviews")
async def list_reviews(
    request: Request,
    viewer: Acting,
    services: Using,
    platform: PlatformQuery = None,
    queue: Annotated[str | None, Query(max_length=100)] = None,
    state: Literal["pending", "claimed", "decided", "withdrawn"] | None = None,
    mine: bool = False,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=512)] = None,
) -> Response:
    """Reviews, newest first."""
    platform_ids = some_platforms(viewer, platform)
    scope = {"list": "reviews", "actor": viewer.actor.id, "of": [platform, queue, state, mine]}
    before = None if cursor is None else services.cursors.decode(scope, cursor)
    wanted = Wanted(platform_ids, queue, state, mine, before, limit + 1)
    rows, last = await services.database.run(_list, viewer.actor, wanted)
    headers = dict(PRIVATE)
    if last is not None:
        next_page = request.url.include_query_params(cursor=services.cursors.encode(scope, *last))
        headers["Link"] = f'<{services.settings.public_url}{next_page.path}?{next_page.query}>; rel="next"'
    return JSONResponse({"data": rows}, headers=headers)


def _list(session: Session, actor: Actor, wanted: Wanted) -> tuple[list[dict[str, Any]], Any]:
    rows = board.listing(session, actor, wanted)
    if len(rows) < wanted.limit:
        return rows, None
    rows = rows[:-1]
    review = session.get_one(Review, review_of(rows[-1]["id"]))
    return rows, (review.created_at, review.id)


@router.post("/v1/reviews/claim")
async def claim_next(asked: ClaimRequest, viewer: Acting, services: Using) -> Response:
    """The next item by risk and due time, under a lease of ten minutes; 204 where nothing waits."""
    wanted = some_platforms(viewer, asked.platform)
    await services.database.run(decisions.tend)
    review = await services.database.run(goldens.claim, viewer.actor, platform_ids=wanted, queue=asked.queue)
    return Response(status_code=204) if review is None else await _claimed(services, viewer, review.id)


async def _claimed(services: Services, viewer: Viewer, review_id: UUID) -> Response:
    shown = await whole_case(services, viewer, review_id)
    return JSONResponse({"review": shown, "lease": shown["lease"]}, headers=PRIVATE)


async def whole_case(services: Services, viewer: Viewer, review_id: UUID) -> dict[str, Any]:
    """Everything the review page shows, with the images that look alike. Raises NotGrantedError."""
    near = await services.neighbours.near(viewer.actor, review_id)
    shown = await services.database.run(case.case, viewer.actor, review_id, near)
    return {**shown, "settings": viewer.settings.model_dump(mode="json")}


@router.get("/v1/reviews/{review_id}")
async def get_review(review_id: str, viewer: Acting, services: Using) -> Response:
    """Everything the review page shows."""
    await services.database.run(decisions.tend)
    return JSONResponse(await whole_case(services, viewer, review_of(review_id)), headers=PRIVATE)


@router.post("/v1/reviews/{review_id}/claim")
async def claim_one(review_id: str, viewer: Acting, services: Using) -> Response:
    """Take this very item."""
    await services.database.run(reviews.claim_this, viewer.actor, review_of(review_id))
    return await _claimed(services, viewer, review_of(review_id))


@router.post("/v1/reviews/{review_id}/extend")
async def extend(review_id: str, asked: LeaseRequest, viewer: Acting, services: Using) -> Response:
    """Ten more minutes from now."""
    lease = await services.database.run(reviews.extend, viewer.actor, review_of(review_id), asked.lease_token)
    return JSONResponse({"lease": {"token": lease.token, "expires_at": timestamp(lease.expires_at)}}, headers=PRIVATE)


@router.post("/v1/reviews/{review_id}/release", status_code=204)
async def release(review_id: str, asked: LeaseRequest, viewer: Acting, services: Using) -> Response:
    """Give it back."""
    await services.database.run(reviews.release, viewer.actor, review_of(review_id), asked.lease_token)
    return Response(status_code=204)


@router.post("/v1/reviews/{review_id}/skip", status_code=204)
async def skip(review_id: str, asked: SkipRequest, viewer: Acting, services: Using) -> Response:
    """Pass; it is not offered to you for an hour, and after three skips it is a lead's."""
    await services.database.run(reviews.skip, viewer.actor, review_of(review_id), asked.lease_token, asked.reason)
    return Response(status_code=204)


@router.post("/v1/reviews/{review_id}/escalate", status_code=204)
async def escalate(review_id: str, asked: EscalationRequest, viewer: Acting, services: Using) -> Response:
    """Hand it to the leads."""
    await services.database.run(reviews.escalate, viewer.actor, review_of(review_id), asked.lease_token, asked.reason)
    return Response(status_code=204)


@router.post("/v1/reviews/{review_id}/decision")
async def decide(review_id: str, asked: DecisionRequest, viewer: Acting, services: Using) -> Response:
    """Decide. It takes effect by itself after ten seconds, in which it can be undone."""
    body = await services.database.run(_decide, viewer.actor, review_of(review_id), asked)
    return JSONResponse(body, headers=PRIVATE)


def _decide(session: Session, actor: Actor, review_id: UUID, asked: DecisionRequest) -> dict[str, Any]:
    made = decisions.decide(session, actor, review_id, asked.lease_token, asked.choice())
    review = session.get_one(Review, review_id)
    return {
        "decision": case.decision(made, actor),
        "state": review.state,
        "undo_until": timestamp(review.settles_at),
    }


@router.post("/v1/reviews/{review_id}/undo")
async def undo(review_id: str, viewer: Acting, services: Using) -> Response:
    """Take your decision back while its window is open, and hold the item again."""
    await services.database.run(decisions.undo, viewer.actor, review_of(review_id))
    return await _claimed(services, viewer, review_of(review_id))


@router.post("/v1/reviews/{review_id}/reversal")
async def reverse(review_id: str, asked: ReversalRequest, viewer: Acting, services: Using) -> Response:
    """Replace a decision that has taken effect; for leads."""
    body = await services.database.run(_reverse, viewer.actor, review_of(review_id), asked.choice())
    return JSONResponse(body, headers=PRIVATE)


def _reverse(session: Session, actor: Actor, review_id: UUID, choice: Choice) -> dict[str, Any]:
    return {"decision": case.decision(decisions.reverse(session, actor, review_id, choice), actor)}


@router.post("/v1/reviews/{review_id}/exposure", status_code=204)
async def expose(review_id: str, asked: ExposureRequest, viewer: Acting, services: Using) -> Response:
    """Report for how long you have had the unveiled image before you."""
    await services.database.run(exposure.add, viewer.actor, review_of(review_id), asked.seconds)
    return Response(status_code=204)


@router.post("/v1/reviews/{review_id}/gps")
async def show_position(review_id: str, viewer: Acting, services: Using) -> Response:
    """Where the image says it was taken. Hidden until asked for, and the asking is recorded."""
    found = await services.database.run(provenance.position, viewer.actor, review_of(review_id))
    return JSONResponse({"gps": found}, headers=PRIVATE)
