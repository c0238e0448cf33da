"""What waits, how long, and what is due next? Answered at the same cost however much waits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select, text, tuple_
from sqlalchemy.orm import Session

from screening.actors import Actor, Role
from screening.document import timestamp
from screening.ids import Prefix, encode
from screening.reviews_sql import BOARD
from screening.tables import Image, Platform, Review, ReviewState

BOUND = 1_000  # counts stop here: "1,000 or more" tells a person as much, and costs the same at any size


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which reviews a list asks for. `before` is the (created_at, id) of the last row already seen."""

    platform_ids: Sequence[UUID]
    queue: str | None = None
    state: str | None = None
    mine: bool = False
    before: tuple[datetime, UUID] | None = None
    limit: int = 50


def board(session: Session, actor: Actor, platform_ids: list[UUID] | None = None) -> dict[str, Any]:
    """Each queue with something pending, and what the actor holds."""
    wanted = [p for p in actor.platforms() if platform_ids is None or p in platform_ids]
    leads = [actor.grants[p].role.includes(Role.LEAD) for p in wanted]
    rows = session.execute(text(BOARD), {"platforms": wanted, "leads": leads, "bound": BOUND}).mappings()
    queues = [_queue(dict(row)) for row in rows if row["pending"]]
    return {"object": "board", "mine": _mine(session, actor), "queues": queues}


def _queue(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "platform": {"id": encode(Prefix.PLATFORM, row["platform_id"]), "name": row["platform_name"]},
        "queue": row["queue"],
        "lead_only": row["lead_only"],
        "pending": min(row["pending"], BOUND),
        "pending_is_minimum": row["pending"] > BOUND,
        "overdue": min(row["overdue"], BOUND),
        "overdue_is_minimum": row["overdue"] > BOUND,
        "oldest_at": timestamp(row["oldest_at"]),
        "next_due_at": timestamp(row["next_due_at"]),
    }


def _mine(session: Session, actor: Actor) -> dict[str, int]:
    live = (ReviewState.CLAIMED, ReviewState.SETTLING)
    statement = (
        select(Review.state, func.count())
        .where(Review.claimed_by == actor.id, Review.state.in_(live))
        .group_by(Review.state)
    )
    counts = {row[0]: row[1] for row in session.execute(statement)}
    return {state.value: counts.get(state, 0) for state in live}


def listing(session: Session, actor: Actor, wanted: Wanted) -> list[dict[str, Any]]:
    """Summaries, newest first, of what the actor may see."""
    rows = session.execute(_select(actor, wanted)).all()
    return [summary(review, image, name, actor) for review, image, name in rows]


def _select(actor: Actor, wanted: Wanted) -> Select[Review, Image, str]:
    statement = (
        select(Review, Image, Platform.name)
        .join(Platform, Platform.id == Review.platform_id)
        .outerjoin(Image, Image.screening_id == Review.screening_id)
        .where(Review.platform_id.in_(wanted.platform_ids))
        .order_by(Review.created_at.desc(), Review.id.desc())
        .limit(wanted.limit)
    )
    if wanted.queue is not None:
        statement = statement.where(Review.queue == wanted.queue)
    if wanted.state is not None:
        statement = statement.where(Review.state == wanted.state)
    if wanted.mine:
        statement = statement.where(Review.claimed_by == actor.id)
    if wanted.before is not None:
        statement = statement.where(tuple_(Review.created_at, Review.id) < tuple_(*wanted.before))
    return statement


def summary(review: Review, image: Image | None, platform_name: str, actor: Actor) -> dict[str, Any]:
    """A review as lists show it. What a first decision said is in none of these columns until the review has ended."""
    base = f"/v1/reviews/{encode(Prefix.REVIEW, review.id)}"
    mine = review.claimed_by == actor.id
    shown = {} if image is None else {"width": image.width, "height": image.height, "format": image.format}
    return {
        "id": encode(Prefix.REVIEW, review.id),
        "object": "review",
        "platform": {"id": encode(Prefix.PLATFORM, review.platform_id), "name": platform_name},
        "screening_id": encode(Prefix.SCREENING, review.screening_id),
        "queue": review.queue,
        "state": _state(review, mine),
        "lead_only": review.lead_only,
        "risk": round(review.risk, 4),
        "due_at": timestamp(review.due_at),
        "created_at": timestamp(review.created_at),
        "claimed_by_me": mine,
        "decided_at": timestamp(review.decided_at),
        "verdict": review.verdict,
        "action": review.action,
        "image": shown or None,
        "links": {
            "self": base,
            "thumbnail": f"{base}/thumbnail",
            "page": f"/reviews/{encode(Prefix.REVIEW, review.id)}",
        },
    }


def _state(review: Review, mine: bool) -> str:
    """Only the decider sees the undo window; to others the review is still in somebody's hands."""
    return ReviewState.CLAIMED.value if review.state == ReviewState.SETTLING and not mine else review.state
