"""What does one need to see to decide about one image? Everything of the review page, in one object."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session, selectinload

from screening import decisions, document, neighbourhood, provenance, reviews, wording
from screening.actors import Actor, Role
from screening.board import summary
from screening.document import timestamp
from screening.ids import Prefix, encode
from screening.rules import Document
from screening.similar import Near
from screening.tables import (
    Correction,
    Decision,
    Exposure,
    Finding,
    Platform,
    Provenance,
    Review,
    ReviewState,
    Screening,
    Stage,
    Submission,
)


def case(session: Session, actor: Actor, review_id: UUID, near: Sequence[Near] = ()) -> dict[str, Any]:
    """The whole of a review; `near` are the images that look like its own. Raises NotGrantedError."""
    review = reviews.visible(session, actor, review_id)
    screening = _screening(session, review)
    finding = session.get_one(Finding, review.screening_id)
    policy = decisions.policy_of(session, review)
    name = session.get_one(Platform, review.platform_id).name
    return {
        **summary(review, screening.image, name, actor),
        **_holding(review, actor),
        "sentence": wording.sentence(finding),
        "verdict": document.verdict(finding),
        "reasons": [{"code": code, "text": wording.reason(code)} for code in finding.reasons],
        "localization": _localization(screening, finding),
        "policy": _policy(finding, policy),
        "provenance": provenance.shown(session.get(Provenance, review.screening_id)),
        "submission": _submission(screening, screening.submission),
        "similar": neighbourhood.past_cases(session, review, near),
        "cluster": {"pending": len(neighbourhood.cluster(session, review, near))},
        "corrections": _corrections(session, review, actor),
        "decisions": shown_decisions(session, review, actor),
        "exposure_seconds": _exposure(session, review, actor),
        "versions": document.versions(finding),
        "links": _links(review),
    }


def _screening(session: Session, review: Review) -> Screening:
    loaded = (selectinload(Screening.submission), selectinload(Screening.image))
    return session.scalars(select(Screening).where(Screening.id == review.screening_id).options(*loaded)).one()


def _holding(review: Review, actor: Actor) -> dict[str, Any]:
    """Lease and undo window, for whoever holds the review."""
    mine = review.claimed_by == actor.id
    held = mine and review.state == ReviewState.CLAIMED
    settling = mine and review.state == ReviewState.SETTLING
    return {
        "stage": review.stage,
        "lease": lease(review) if held else None,
        "undo_until": timestamp(review.settles_at) if settling else None,
    }


def lease(review: Review) -> dict[str, Any]:
    """The lease as its holder sees it."""
    held = reviews.lease(review)
    return {"token": held.token, "expires_at": timestamp(held.expires_at)}


def _localization(screening: Screening, finding: Finding) -> dict[str, Any]:
    image = screening.image
    return {
        "area_fraction": finding.area_fraction,
        "extent": finding.extent,
        "mask_verdict_conflict": finding.mask_verdict_conflict,
        "regions": finding.regions,
        "width": None if image is None else image.width,
        "height": None if image is None else image.height,
    }


def _policy(finding: Finding, policy: Document) -> dict[str, Any]:
    return {
        **document.policy(finding),
        "guard_text": None if finding.guard is None else wording.GUARDS.get(finding.guard),
        "text": policy.text,
        "reasons": [reason.model_dump(mode="json") for reason in policy.reasons],
    }


def _submission(screening: Screening, submission: Submission) -> dict[str, Any]:
    return {
        "client_ref": screening.client_ref,
        "metadata": submission.details,
        "filename": submission.filename,
        "source": submission.source,
        "priority": screening.priority,
        "created_at": timestamp(screening.created_at),
    }


def _corrections(session: Session, review: Review, actor: Actor) -> list[dict[str, Any]]:
    """Redrawn masks: everybody's once decided, one's own before, so that a second look stays blind."""
    statement = select(Correction).where(Correction.review_id == review.id).order_by(Correction.version)
    if review.state != ReviewState.DECIDED:
        statement = statement.where(Correction.actor_id == actor.id)
    return [correction(row, actor) for row in session.scalars(statement)]


def correction(row: Correction, actor: Actor) -> dict[str, Any]:
    """One version of a redrawn mask."""
    return {
        "version": row.version,
        "iou": round(row.iou, 6),
        "sha256": row.sha256.hex(),
        "by_me": row.actor_id == actor.id,
        "created_at": timestamp(row.created_at),
        "mask": f"/v1/reviews/{encode(Prefix.REVIEW, row.review_id)}/corrections/{row.version}",
    }


def shown_decisions(session: Session, review: Review, actor: Actor) -> list[dict[str, Any]]:
    """What was decided, as far as this actor may know.

    All of it at the end; before that one's own, and both sides to a lead who has to arbitrate.
    """
    statement = select(Decision).where(Decision.review_id == review.id).order_by(Decision.created_at, Decision.id)
    arbiter = review.stage == Stage.ARBITRATION and actor.grants[review.platform_id].role.includes(Role.LEAD)
    if review.state != ReviewState.DECIDED and not arbiter:
        statement = statement.where(Decision.actor_id == actor.id)
    return [decision(row, actor) for row in session.scalars(statement)]


def decision(row: Decision, actor: Actor) -> dict[str, Any]:
    """One decision as reviewers see it."""
    return {
        "id": encode(Prefix.DECISION, row.id),
        "stage": row.stage,
        "verdict": row.verdict,
        "action": row.action,
        "reason": row.reason,
        "note": row.note,
        "mask_feedback": row.mask_feedback,
        "seconds": round(row.seconds, 3),
        "reviewer": row.alias,
        "by_me": row.actor_id == actor.id,
        "reverses": None if row.reverses is None else encode(Prefix.DECISION, row.reverses),
        "created_at": timestamp(row.created_at),
        "undone_at": timestamp(row.undone_at),
        "settled_at": timestamp(row.settled_at),
    }


def _exposure(session: Session, review: Review, actor: Actor) -> float:
    mine = select(func.coalesce(func.sum(Exposure.seconds), 0.0)).where(
        Exposure.review_id == review.id, Exposure.actor_id == actor.id
    )
    return float(session.scalar(mine) or 0.0)


def _links(review: Review) -> dict[str, str]:
    base = f"/v1/reviews/{encode(Prefix.REVIEW, review.id)}"
    files = {name: f"{base}/{name}" for name in ("image", "mask", "heatmap", "ela", "thumbnail")}
    screening = encode(Prefix.SCREENING, review.screening_id)
    page = f"/reviews/{encode(Prefix.REVIEW, review.id)}"
    return {**files, "self": base, "page": page, "screening": f"/screenings/{screening}"}
