"""What follows when a person has decided?

First nothing, for ten seconds, in which it can be undone. Then the decision settles by itself, whoever is still there:
the sweeper and every reader of the queue settle what is due. Settling ends the review, or asks a second person where
the policy wants one, or a lead where two people disagree.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from screening import audit, events, policies
from screening.actors import Actor, Role
from screening.errors import AssayError, ConflictError
from screening.ids import Prefix, encode
from screening.reviews import held, hold, lapse, locked, put_back, to_lead
from screening.reviews_sql import SETTLED
from screening.rules import Document
from screening.tables import Decision, Finding, Review, ReviewState, Screening, Stage, assay_now

UNDO_WINDOW = timedelta(seconds=10)
DECIDED = "review.decided"
REVERSED = "decision.reversed"


class TooLateError(ConflictError):
    """The undo window has passed, or there is nothing of the actor's to undo."""

    code = "too_late"


class NotDecidedError(ConflictError):
    """Only what has been decided can be reversed."""

    code = "not_decided"


class UnknownReasonError(AssayError):
    """The policy lists no such reason."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person says about an image. `action` None: what follows from the verdict."""

    verdict: str
    action: str | None = None
    reason: str | None = None
    note: str | None = None
    mask_feedback: str | None = None


def policy_of(session: Session, review: Review) -> Document:
    """The policy version that judged the review's finding."""
    version = session.scalar(select(Finding.policy_version).where(Finding.screening_id == review.screening_id))
    return policies.document(session, review.platform_id, version or policies.BUILT_IN)


def decide(session: Session, actor: Actor, review_id: UUID, lease_token: str, choice: Choice) -> Decision:
    """`claimed -> settling`. Raises LeaseLostError, UnknownReasonError."""
    return decide_held(session, actor, held(session, actor, review_id, lease_token), choice)


def decide_held(
    session: Session, actor: Actor, review: Review, choice: Choice, *, bulk_id: UUID | None = None
) -> Decision:
    """Decide a review that is locked and the actor's."""
    decision = _write(session, actor, review, choice, bulk_id=bulk_id)
    _begin_undo_window(session, review)
    return decision


def _begin_undo_window(session: Session, review: Review) -> None:
    """From now on the decision settles by itself."""
    review.state, review.lease_until = ReviewState.SETTLING.value, None
    review.settles_at = assay_now() + UNDO_WINDOW
    session.flush()
    session.refresh(review)


def _write(session: Session, actor: Actor, review: Review, choice: Choice, **values: Any) -> Decision:
    _check_reason(policy_of(session, review), choice)
    decision = Decision(
        review_id=review.id,
        platform_id=review.platform_id,
        actor_id=actor.id,
        alias=actor.grants[review.platform_id].alias,
        stage=review.stage,
        verdict=choice.verdict,
        action=choice.action or ("block" if choice.verdict == "fake" else "allow"),
        reason=choice.reason,
        note=choice.note,
        mask_feedback=choice.mask_feedback,
        **{"seconds": _seconds_spent(session, actor, review), **values},
    )
    session.add(decision)
    session.flush()
    return decision


def _check_reason(policy: Document, choice: Choice) -> None:
    if choice.reason is None:
        return
    for reason in policy.reasons:
        if reason.code == choice.reason and reason.verdict in (None, choice.verdict):
            return
    raise UnknownReasonError(f"The policy lists no reason {choice.reason!r} for the verdict {choice.verdict}.")


def _seconds_spent(session: Session, actor: Actor, review: Review) -> float:
    """From the claim, or from the actor's last decision where the review, fetched ahead, waited behind another."""
    if review.claimed_at is None:
        return 0.0
    last = select(func.max(Decision.created_at)).where(Decision.actor_id == actor.id).scalar_subquery()
    began = func.greatest(review.claimed_at, last)  # NULLs do not count
    return float(session.scalar(select(func.extract("epoch", assay_now() - began))) or 0.0)


def undo(session: Session, actor: Actor, review_id: UUID) -> Review:
    """`settling -> claimed` under a new lease, within the window. Raises TooLateError."""
    review = locked(session, actor, review_id)
    if not take_back(session, actor, review):
        raise TooLateError("There is no decision of yours left to undo here; a lead can reverse it.")
    hold(review, actor)
    session.flush()
    session.refresh(review)
    return review


def take_back(session: Session, actor: Actor, review: Review) -> bool:
    """Mark the decision of a locked review undone; False where the window has passed or it is not the actor's."""
    now = session.scalar(select(assay_now()))
    mine = review.state == ReviewState.SETTLING and review.claimed_by == actor.id
    if not mine or review.settles_at is None or now is None or review.settles_at <= now:
        return False
    unsettled(session, review).undone_at = now
    return True


def unsettled(session: Session, review: Review) -> Decision:
    """The decision that waits for its undo window to pass."""
    statement = select(Decision).where(
        Decision.review_id == review.id, Decision.undone_at.is_(None), Decision.settled_at.is_(None)
    )
    return session.scalars(statement).one()


def tend(session: Session, *, limit: int = 100) -> int:
    """What the sweeper and every reader of the queue do first: settle what is due, put back what has lapsed."""
    ids = session.scalars(text(SETTLED), {"limit": limit}).all()
    for review_id in ids:
        _settle(session, session.get_one(Review, review_id, populate_existing=True))
    return len(ids) + lapse(session, limit=limit)


def _settle(session: Session, review: Review) -> None:
    decision = unsettled(session, review)
    decision.settled_at = assay_now()
    if review.golden_truth is not None:
        _finish(review, decision)
    elif review.stage == Stage.FIRST and _wants_second(policy_of(session, review), decision):
        _ask_again(review, Stage.SECOND)
    elif review.stage == Stage.SECOND and _differs(_first(session, review), decision):
        _ask_again(review, Stage.ARBITRATION)
        to_lead(session, review, "reviewers_disagree")
    else:
        _finish(review, decision)
        session.flush()
        session.refresh(review)
        _tell(session, review, decision, DECIDED)
    session.flush()
    _record(session, decision, "decision.settled")


def _wants_second(policy: Document, decision: Decision) -> bool:
    second = policy.second_review
    return decision.verdict in second.verdicts or decision.action in second.actions


def _ask_again(review: Review, stage: Stage) -> None:
    review.stage = stage.value
    put_back(review)


def _first(session: Session, review: Review) -> Decision:
    statement = select(Decision).where(
        Decision.review_id == review.id, Decision.stage == Stage.FIRST, Decision.settled_at.is_not(None)
    )
    return session.scalars(statement).one()


def _differs(first: Decision, second: Decision) -> bool:
    return (first.verdict, first.action) != (second.verdict, second.action)


def _finish(review: Review, decision: Decision) -> None:
    put_back(review)
    review.state, review.decided_at = ReviewState.DECIDED.value, assay_now()
    review.verdict, review.action = decision.verdict, decision.action


def reverse(session: Session, actor: Actor, review_id: UUID, choice: Choice) -> Decision:
    """Replace what was decided by a new decision beside it; the platform hears of it. Raises NotDecidedError."""
    tend(session)
    review = locked(session, actor, review_id, Role.LEAD)
    if review.state != ReviewState.DECIDED or review.golden_truth is not None:
        raise NotDecidedError("There is no final decision here to reverse.")
    standing = standing_decision(session, review)
    decision = _write(session, actor, review, choice, reverses=standing.id, settled_at=assay_now(), seconds=0.0)
    review.verdict, review.action = decision.verdict, decision.action
    session.flush()
    _tell(session, review, decision, REVERSED)
    _record(session, decision, REVERSED)
    return decision


def standing_decision(session: Session, review: Review) -> Decision:
    """The decision that a decided review stands by: the last one settled."""
    statement = (
        select(Decision)
        .where(Decision.review_id == review.id, Decision.settled_at.is_not(None))
        .order_by(Decision.settled_at.desc(), Decision.id.desc())
        .limit(1)
    )
    return session.scalars(statement).one()


def _tell(session: Session, review: Review, decision: Decision, type: str) -> None:
    """The platform hears what was decided and for which reason, not the note, which is between reviewers."""
    screening = session.get_one(Screening, review.screening_id)
    data = {
        "id": encode(Prefix.REVIEW, review.id),
        "object": "review",
        "screening_id": encode(Prefix.SCREENING, review.screening_id),
        "client_ref": screening.client_ref,
        "decision": {
            "id": encode(Prefix.DECISION, decision.id),
            "verdict": decision.verdict,
            "action": decision.action,
            "reason": decision.reason,
            "mask_feedback": decision.mask_feedback,
            "reviewer": decision.alias,
            "reverses": None if decision.reverses is None else encode(Prefix.DECISION, decision.reverses),
        },
    }
    events.emit(session, platform_id=review.platform_id, type=type, data=data, screening_id=review.screening_id)


def _record(session: Session, decision: Decision, action: str) -> None:
    """Into the chain goes a hash of the note: the note itself may one day have to be erased."""
    note = None if decision.note is None else audit.digest(decision.note)
    audit.append(
        session,
        actor=decision.alias,
        action=action,
        subject=encode(Prefix.REVIEW, decision.review_id),
        platform_id=decision.platform_id,
        details={
            "decision": encode(Prefix.DECISION, decision.id),
            "stage": decision.stage,
            "verdict": decision.verdict,
            "action": decision.action,
            "reason": decision.reason,
            "mask_feedback": decision.mask_feedback,
            "note_sha256": note,
        },
    )
