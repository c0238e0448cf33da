"""How does an image come before people, and who holds it now?

A review waits in rank order, is claimed under a lease, and every later act names the lease's token, so that whoever
lost the lease changes nothing. `screening/decisions.py` has what follows a decision. Nothing here commits.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from screening import audit, events, inserting
from screening.actors import Actor, NotGrantedError, Role
from screening.errors import ConflictError
from screening.ids import Prefix, encode, uuid7
from screening.reviews_sql import CLAIM_ANY, CLAIM_FROM_QUEUE, LAPSED, PLACE
from screening.rules import Ruling
from screening.tables import Decision, Finding, Passing, Review, ReviewState, assay_now

LEASE = timedelta(minutes=10)
# How much earlier than its due time a certain forgery stands in the queue. Risk is worth hours, not precedence for
# ever: an item with no risk at all is overtaken only by what is due within these hours after it.
RISK_HEAD_START = timedelta(hours=4)
PASSED_FOR = timedelta(hours=1)  # so long, what somebody passed on is not offered to them again
SKIPS_BEFORE_LEAD = 3
MOST_CLAIMS = 5  # one before the reviewer, the next fetched ahead, and room for a second window
POOL = 64  # more than the reviewers who claim at the same instant

ESCALATED = "review.escalated"


class LeaseLostError(ConflictError):
    """The lease has ended, or was never the caller's."""

    code = "lease_lost"


class WithdrawnError(ConflictError):
    """The platform erased the image; there is nothing left to decide."""

    code = "withdrawn"


class NotClaimableError(ConflictError):
    """Somebody else holds the review, or it is no longer open."""

    code = "not_claimable"


class TooManyClaimsError(ConflictError):
    """The actor holds as many reviews as one can."""

    code = "too_many_claims"


@dataclass(frozen=True, slots=True)
class Lease:
    """What a claim hands out."""

    token: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Item:
    """What is to come before people. With a truth it is a golden item, which asks again and decides nothing."""

    finding: Finding
    queue: str
    due_in: timedelta
    truth: str | None = None


def open_for(session: Session, ruled: Sequence[tuple[Finding, Ruling]]) -> None:
    """Put those findings before people whose rulings ask for it."""
    asked = [
        Item(finding, ruling.queue, timedelta(seconds=ruling.due_seconds))
        for finding, ruling in ruled
        if ruling.queue is not None and ruling.due_seconds is not None
    ]
    place(session, asked)


def place(session: Session, items: Sequence[Item]) -> list[UUID]:
    """Insert pending reviews; returns their ids, in order."""
    ids = [uuid7() for _ in items]
    rows = [
        {
            "id": id, "platform_id": item.finding.platform_id, "screening_id": item.finding.screening_id,
            "queue": item.queue, "risk": risk(item.finding), "due_in": item.due_in, "golden_truth": item.truth,
        }
        for id, item in zip(ids, items, strict=True)
    ]  # fmt: skip
    if rows:
        session.execute(text(PLACE), {"rows": inserting.as_json(rows), "head_start": RISK_HEAD_START})
    return ids


def risk(finding: Finding) -> float:
    """0..1: how likely the image is forged, raised where evidence contradicts itself."""
    likely = finding.score if finding.probability is None else finding.probability
    if finding.label == "inconclusive":
        likely = max(likely, 0.5)
    return min(1.0, likely + 0.15 * finding.mask_verdict_conflict + 0.3 * bool(finding.provenance_conflict))


def visible(session: Session, actor: Actor, review_id: UUID, role: Role = Role.REVIEWER) -> Review:
    """A review that the actor may see. Raises NotGrantedError, RoleTooSmallError."""
    return _visible(actor, session.get(Review, review_id, populate_existing=True), role)


def locked(session: Session, actor: Actor, review_id: UUID, role: Role = Role.REVIEWER) -> Review:
    """The same, locked to the end of the transaction."""
    return _visible(actor, session.get(Review, review_id, with_for_update=True, populate_existing=True), role)


def _visible(actor: Actor, review: Review | None, role: Role) -> Review:
    if review is None:
        raise NotGrantedError("There is nothing here under this id.")
    actor.grant(review.platform_id, role)
    return review


def token(review: Review) -> str:
    """The lease token: it names review, holder and claim, so a late or foreign one never fits."""
    holder = review.claimed_by or UUID(int=0)
    return hashlib.sha256(review.id.bytes + holder.bytes + review.claim.to_bytes(8, "big")).hexdigest()[:32]


def lease(review: Review) -> Lease:
    """The lease of a claimed review."""
    assert review.lease_until is not None  # noqa: S101 - claimed reviews have one
    return Lease(token(review), review.lease_until)


def claim(
    session: Session, actor: Actor, *, platform_ids: list[UUID] | None = None, queue: str | None = None
) -> Review | None:
    """The next review by risk and due time, now under the actor's lease; None where nothing is left to do."""
    lapse(session)
    _room(session, actor)
    wanted = [p for p in actor.platforms() if platform_ids is None or p in platform_ids]
    values = {
        "platforms": wanted,
        "leads": [actor.grants[p].role.includes(Role.LEAD) for p in wanted],
        "actor": actor.id,
        "lease": LEASE,
        "passed": PASSED_FOR,
        "pool": POOL,
    }
    statement = CLAIM_ANY if queue is None else CLAIM_FROM_QUEUE
    chosen = session.scalar(text(statement), values if queue is None else {**values, "queue": queue})
    return None if chosen is None else session.get(Review, chosen, populate_existing=True)


def _room(session: Session, actor: Actor) -> None:
    mine = select(func.count()).where(Review.claimed_by == actor.id, Review.state == ReviewState.CLAIMED)
    if (session.scalar(mine) or 0) >= MOST_CLAIMS:
        raise TooManyClaimsError(f"You hold {MOST_CLAIMS} reviews: decide, skip or release one first.")


def claim_this(session: Session, actor: Actor, review_id: UUID) -> Review:
    """One certain review, if it is open and may be the actor's; what is already theirs is simply handed out again."""
    lapse(session)
    review = locked(session, actor, review_id)
    if review.state == ReviewState.CLAIMED and review.claimed_by == actor.id:
        return review
    _check_kept(review)
    lead = actor.grants[review.platform_id].role.includes(Role.LEAD)
    if review.state != ReviewState.PENDING or (review.lead_only and not lead) or _decided_by(session, actor, review):
        raise NotClaimableError("This review is with somebody else, or is not open to you.")
    _room(session, actor)
    hold(review, actor)
    session.flush()
    session.refresh(review)
    return review


def hold(review: Review, actor: Actor) -> None:
    """Put a locked review under a new lease."""
    review.state, review.claimed_by = ReviewState.CLAIMED.value, actor.id
    review.claim += 1
    review.claimed_at = assay_now()
    review.lease_until = assay_now() + LEASE
    review.settles_at = None


def _decided_by(session: Session, actor: Actor, review: Review) -> bool:
    mine = select(Decision.id).where(
        Decision.review_id == review.id, Decision.actor_id == actor.id, Decision.undone_at.is_(None)
    )
    return session.scalar(mine.limit(1)) is not None


def _check_kept(review: Review) -> None:
    if review.state == ReviewState.WITHDRAWN:
        raise WithdrawnError("The platform erased this image, and with it the review. Go on with the next one.")


def held(session: Session, actor: Actor, review_id: UUID, lease_token: str) -> Review:
    """A review that is under the actor's lease at this moment, locked. Raises LeaseLostError otherwise.

    Raises WithdrawnError where the image was erased meanwhile, so that whoever held it learns why it is gone.
    """
    review = locked(session, actor, review_id)
    _check_kept(review)
    now = session.scalar(select(assay_now()))
    mine = review.state == ReviewState.CLAIMED and review.claimed_by == actor.id and token(review) == lease_token
    if not mine or review.lease_until is None or now is None or review.lease_until <= now:
        raise LeaseLostError("The lease has ended or is somebody else's: claim again.")
    return review


def extend(session: Session, actor: Actor, review_id: UUID, lease_token: str) -> Lease:
    """Ten minutes from now, under the same token."""
    review = held(session, actor, review_id, lease_token)
    review.lease_until = assay_now() + LEASE
    session.flush()
    session.refresh(review)
    return lease(review)


def release(session: Session, actor: Actor, review_id: UUID, lease_token: str) -> None:
    """Give a review back as if it had never been claimed."""
    put_back(held(session, actor, review_id, lease_token))
    session.flush()


def put_back(review: Review) -> None:
    """`claimed | settling -> pending`."""
    review.state = ReviewState.PENDING.value
    review.claimed_by = review.claimed_at = review.lease_until = review.settles_at = None


def skip(session: Session, actor: Actor, review_id: UUID, lease_token: str, reason: str) -> None:
    """Pass: it is not offered to the actor for a while, and what several passed on goes to a lead."""
    review = held(session, actor, review_id, lease_token)
    _pass(session, actor, review, "skip", reason)
    review.skips += 1
    if review.skips >= SKIPS_BEFORE_LEAD and not review.lead_only:
        to_lead(session, review, "skipped")


def escalate(session: Session, actor: Actor, review_id: UUID, lease_token: str, reason: str) -> None:
    """Hand a review to the leads."""
    review = held(session, actor, review_id, lease_token)
    _pass(session, actor, review, "escalate", reason)
    to_lead(session, review, "escalated", actor.grants[review.platform_id].alias)


def _pass(session: Session, actor: Actor, review: Review, kind: str, reason: str) -> None:
    alias = actor.grants[review.platform_id].alias
    session.add(Passing(review_id=review.id, actor_id=actor.id, alias=alias, kind=kind, reason=reason))
    put_back(review)
    session.flush()


def to_lead(session: Session, review: Review, why: str, alias: str = "system") -> None:
    """From now on only leads may claim it; the platform hears, unless it is a golden item."""
    review.lead_only = True
    session.flush()
    if review.golden_truth is None:
        data = {
            "id": encode(Prefix.REVIEW, review.id),
            "screening_id": encode(Prefix.SCREENING, review.screening_id),
            "reason": why,
        }
        events.emit(
            session, platform_id=review.platform_id, type=ESCALATED, data=data, screening_id=review.screening_id
        )  # fmt: skip
    audit.append(
        session,
        actor=alias,
        action=ESCALATED,
        subject=encode(Prefix.REVIEW, review.id),
        platform_id=review.platform_id,
        details={"reason": why},
    )


def lapse(session: Session, *, limit: int = 100) -> int:
    """Put reviews back whose lease has ended; returns how many."""
    return len(session.scalars(text(LAPSED), {"limit": limit}).all())


def withdraw(session: Session, screening_id: UUID) -> None:
    """The image was erased: what is still open ends, and notes, which may describe the image, are emptied."""
    reviews = select(Review.id).where(Review.screening_id == screening_id)
    session.execute(update(Decision).where(Decision.review_id.in_(reviews)).values(note=None))
    session.execute(update(Passing).where(Passing.review_id.in_(reviews)).values(reason=""))
    session.execute(
        update(Review)
        .where(Review.screening_id == screening_id, Review.state != ReviewState.DECIDED)
        .values(state=ReviewState.WITHDRAWN, claimed_by=None, claimed_at=None, lease_until=None, settles_at=None)
    )
