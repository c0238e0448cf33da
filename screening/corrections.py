"""How does a mask come to be put right? In versions beside the model's, which stays as it was."""

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from screening import blobs, reviews
from screening.actors import Actor, NotGrantedError
from screening.ids import uuid7
from screening.tables import Correction, Finding, Review, ReviewState


def key(review: Review) -> str:
    """A fresh blob key, with the screening's other files, so that erasing finds it."""
    return f"{blobs.screening_prefix(review.platform_id, review.screening_id)}corrections/{uuid7().hex}.png"


def begin(session: Session, actor: Actor, review_id: UUID, lease_token: str) -> tuple[Review, Finding]:
    """The review under the actor's lease, with the finding whose mask is put right. Raises LeaseLostError."""
    review = reviews.held(session, actor, review_id, lease_token)
    return review, session.get_one(Finding, review.screening_id)


def add(
    session: Session, actor: Actor, review_id: UUID, lease_token: str, *, blob_key: str, sha256: bytes, iou: float
) -> Correction:
    """The next version, if the lease is still the actor's. Raises LeaseLostError."""
    review = reviews.held(session, actor, review_id, lease_token)  # locks the review, and with it the count
    newest = session.scalar(select(func.max(Correction.version)).where(Correction.review_id == review_id))
    row = Correction(
        review_id=review_id,
        version=(newest or 0) + 1,
        screening_id=review.screening_id,
        actor_id=actor.id,
        alias=actor.grants[review.platform_id].alias,
        blob_key=blob_key,
        sha256=sha256,
        iou=iou,
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return row


def load(session: Session, actor: Actor, review_id: UUID, version: int) -> Correction:
    """One version, which before the decision is its author's alone. Raises NotGrantedError."""
    review = reviews.visible(session, actor, review_id)
    row = session.get(Correction, (review_id, version))
    if row is None or (row.actor_id != actor.id and review.state != ReviewState.DECIDED):
        raise NotGrantedError("There is nothing here under this id.")
    return row
