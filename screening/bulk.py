"""How are many reviews of one picture decided at once, and exactly the ones that were shown?"""

import hashlib
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from screening import audit, decisions, neighbourhood, reviews
from screening.actors import Actor, NotGrantedError, Role
from screening.decisions import Choice
from screening.errors import ConflictError
from screening.ids import Prefix, encode, uuid7
from screening.similar import Near
from screening.tables import Decision, Review, ReviewState


class ClusterChangedError(ConflictError):
    """What would be decided is no longer what was shown."""

    code = "cluster_changed"


def members(session: Session, actor: Actor, review_id: UUID, near: Sequence[Near]) -> list[tuple[Review, Near]]:
    """What a bulk decision would decide: pending near-duplicates. Raises NotGrantedError, RoleTooSmallError."""
    review = reviews.visible(session, actor, review_id, Role.LEAD)
    return neighbourhood.cluster(session, review, near)


def digest(rows: Sequence[tuple[Review, Near]]) -> str:
    """A name for exactly this set of reviews."""
    return hashlib.sha256(b"".join(sorted(row.id.bytes for row, _ in rows))).hexdigest()


def decide(
    session: Session, actor: Actor, review_id: UUID, near: Sequence[Near], choice: Choice, *, shown: str
) -> tuple[UUID, int]:
    """Decide all of them under one id, each with its own undo window. Raises ClusterChangedError."""
    ids = [row.id for row, _ in members(session, actor, review_id, near)]
    locked = session.scalars(
        select(Review).where(Review.id.in_(ids), Review.state == ReviewState.PENDING).order_by(Review.id)
        .with_for_update().execution_options(populate_existing=True)
    ).all()  # fmt: skip
    if digest([(row, Near(row.screening_id, 0, "same")) for row in locked]) != shown:
        raise ClusterChangedError("Some of these were decided or joined meanwhile: look again.")
    bulk_id = uuid7()
    for row in locked:
        reviews.hold(row, actor)
        session.flush()
        decisions.decide_held(session, actor, row, choice, bulk_id=bulk_id)
    if locked:
        _record(session, actor, locked[0].platform_id, bulk_id, len(locked))
    return bulk_id, len(locked)


def _record(session: Session, actor: Actor, platform_id: UUID, bulk_id: UUID, count: int) -> None:
    audit.append(
        session,
        actor=actor.grants[platform_id].alias,
        action="review.bulk",
        subject=encode(Prefix.DECISION, bulk_id),
        platform_id=platform_id,
        details={"count": count},
    )


def undo(session: Session, actor: Actor, bulk_id: UUID) -> int:
    """Take back every decision of it whose window is open; returns how many.

    Raises NotGrantedError where it is not the actor's, TooLateError where every window has passed.
    """
    mine = select(Decision.review_id).where(Decision.bulk_id == bulk_id, Decision.actor_id == actor.id)
    ids = session.scalars(mine.order_by(Decision.review_id)).all()
    if not ids:
        raise NotGrantedError("There is nothing here under this id.")
    taken = 0
    for review_id in ids:
        review = reviews.locked(session, actor, review_id)
        if decisions.take_back(session, actor, review):
            reviews.put_back(review)
            taken += 1
    session.flush()
    if not taken:
        raise decisions.TooLateError("There is nothing left to undo here; a lead can reverse single decisions.")
    return taken
