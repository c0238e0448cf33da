"""How is a reviewer measured? By items whose truth is known, handed out as if they were any other."""

import secrets
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Select, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from screening import audit, policies, reviews
from screening.actors import Actor, NotGrantedError, Role
from screening.ids import Prefix, encode
from screening.reviews import Item
from screening.tables import Finding, Golden, Review, Screening, Stage

ONCE = 2**53
_DRAW = secrets.SystemRandom()

# Never one that this reviewer has had, in whatever guise. A golden set is small, so a random order costs nothing.
FRESH = text("""
SELECT g.screening_id, g.truth
  FROM goldens g JOIN screenings s ON s.id = g.screening_id
 WHERE g.platform_id = :platform AND s.erased_at IS NULL AND g.screening_id <> :not_this
   AND NOT EXISTS (
       SELECT FROM reviews r
        WHERE r.screening_id = g.screening_id
          AND (r.claimed_by = :actor
               OR EXISTS (SELECT FROM decisions d WHERE d.review_id = r.id AND d.actor_id = :actor)))
 ORDER BY random() LIMIT 1
""")


def add(session: Session, actor: Actor, screening_id: UUID, truth: str) -> Golden:
    """Declare a screening's truth known. Raises NotGrantedError."""
    row = _owned(session, actor, screening_id)
    alias = actor.grants[row.platform_id].alias
    values = {"truth": truth, "alias": alias}
    statement = insert(Golden).values(screening_id=row.id, platform_id=row.platform_id, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["screening_id"], set_=values))
    _record(session, row, alias, "golden.added", truth=truth)
    return session.get_one(Golden, row.id, populate_existing=True)


def remove(session: Session, actor: Actor, screening_id: UUID) -> None:
    """Ask no more about it. Raises NotGrantedError."""
    row = _owned(session, actor, screening_id)
    golden = session.get(Golden, screening_id)
    if golden is None:
        raise NotGrantedError("There is nothing here under this id.")
    session.delete(golden)
    session.flush()
    _record(session, row, actor.grants[row.platform_id].alias, "golden.removed")


def of(platform_id: UUID, *, limit: int = 200) -> Select[Golden]:
    """A platform's golden items, newest first."""
    return select(Golden).where(Golden.platform_id == platform_id).order_by(Golden.created_at.desc()).limit(limit)


def _owned(session: Session, actor: Actor, screening_id: UUID) -> Screening:
    row = session.get(Screening, screening_id)
    if row is None or session.get(Finding, screening_id) is None:
        raise NotGrantedError("There is nothing here under this id.")
    actor.grant(row.platform_id, Role.LEAD)
    return row


def _record(session: Session, row: Screening, alias: str, action: str, **details: str) -> None:
    subject = encode(Prefix.SCREENING, row.id)
    audit.append(
        session, actor=alias, action=action, subject=subject, platform_id=row.platform_id, details=dict(details)
    )  # fmt: skip


def claim(
    session: Session, actor: Actor, *, platform_ids: list[UUID] | None = None, queue: str | None = None
) -> Review | None:
    """The next review, or at the policy's rate a golden item in its place, in its queue and with its due time."""
    review = reviews.claim(session, actor, platform_ids=platform_ids, queue=queue)
    if review is None or review.stage != Stage.FIRST or review.golden_truth is not None:
        return review
    version = policies.standing(session, review.platform_id).version
    share = policies.document(session, review.platform_id, version).golden_share
    if _DRAW.randrange(ONCE) >= share * ONCE:
        return review
    return _instead(session, actor, review) or review


def _instead(session: Session, actor: Actor, review: Review) -> Review | None:
    wanted = {"platform": review.platform_id, "actor": actor.id, "not_this": review.screening_id}
    fresh = session.execute(FRESH, wanted).first()
    if fresh is None:
        return None
    finding = session.get_one(Finding, fresh.screening_id)
    [placed] = reviews.place(session, [Item(finding, review.queue, timedelta(0), fresh.truth)])
    golden = session.get_one(Review, placed)
    golden.due_at, golden.lead_only = review.due_at, review.lead_only
    reviews.put_back(review)
    reviews.hold(golden, actor)
    session.flush()
    session.refresh(golden)
    return golden
