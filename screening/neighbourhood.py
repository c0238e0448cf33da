"""Which of a platform's images look like a given one, and what became of them? Never across platforms."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select, tuple_
from sqlalchemy.orm import Session

from screening.document import timestamp
from screening.ids import Prefix, encode
from screening.similar import GOOD_QUALITY, Near
from screening.tables import Finding, Image, Review, ReviewState, Screening

PAGE = 20_000
# A finding's time is its transaction's start, so one may become visible after a later one: look back this far.
OVERLAP = timedelta(minutes=2)
SHOWN = 10
MOST_TOGETHER = 500  # reviews decided in one go; what is beyond comes with the next

Place = tuple[datetime, UUID]


@dataclass(frozen=True, slots=True)
class Hashed:
    """Images by hash, and where the next page begins; None at the end."""

    rows: list[tuple[UUID, bytes]]
    last: Place | None
    count: int  # of findings read, with or without a usable hash


def hashed_since(session: Session, platform_id: UUID, after: Place | None) -> Hashed:
    """One page of a platform's hashes in the order in which their findings were recorded."""
    statement = (
        select(Finding.screening_id, Image.pdq_hash, Image.pdq_quality, Finding.created_at)
        .join(Image, Image.screening_id == Finding.screening_id)
        .where(Finding.platform_id == platform_id)
        .order_by(Finding.created_at, Finding.screening_id)
        .limit(PAGE)
    )
    if after is not None:
        statement = statement.where(tuple_(Finding.created_at, Finding.screening_id) > tuple_(*after))
    rows = session.execute(statement).all()
    kept = [(r[0], r[1]) for r in rows if r[1] is not None and (r[2] or 0) >= GOOD_QUALITY]
    return Hashed(kept, (rows[-1][3], rows[-1][0]) if rows else None, len(rows))


def asked_about(session: Session, review: Review) -> tuple[bytes, bytes | None] | None:
    """The hash of a review's image and its dihedral hashes; None where it has too little structure to compare."""
    image = session.scalars(select(Image).where(Image.screening_id == review.screening_id)).first()
    if image is None or image.pdq_hash is None or (image.pdq_quality or 0) < GOOD_QUALITY:
        return None
    return image.pdq_hash, image.pdq_dihedral


def past_cases(session: Session, review: Review, near: Sequence[Near]) -> list[dict[str, Any]]:
    """Decided reviews of images that look like this one, nearest first.

    Golden items learn nothing: their own earlier review would tell the answer.
    """
    if review.golden_truth is not None:
        return []
    by_id = {n.screening_id: n for n in near if n.screening_id != review.screening_id}
    rows = session.scalars(_reviews(review.platform_id, by_id, ReviewState.DECIDED)).all()
    cases = [_case(row, by_id[row.screening_id]) for row in rows]
    return sorted(cases, key=lambda case: (case["distance"], case["review_id"]))[:SHOWN]


def _reviews(platform_id: UUID, by_id: dict[UUID, Near], state: ReviewState) -> Select[Review]:
    nearest = sorted(by_id, key=lambda screening_id: by_id[screening_id].distance)[: 4 * MOST_TOGETHER]
    return (
        select(Review)
        .join(Screening, Screening.id == Review.screening_id)
        .where(
            Review.platform_id == platform_id,
            Review.screening_id.in_(nearest),
            Review.state == state,
            Review.golden_truth.is_(None),
            Screening.erased_at.is_(None),
        )
    )


def _case(row: Review, near: Near) -> dict[str, Any]:
    review_id = encode(Prefix.REVIEW, row.id)
    return {
        "screening_id": encode(Prefix.SCREENING, row.screening_id),
        "review_id": review_id,
        "distance": near.distance,
        "transform": near.transform,
        "verdict": row.verdict,
        "action": row.action,
        "decided_at": timestamp(row.decided_at),
        "thumbnail": f"/v1/reviews/{review_id}/thumbnail",
    }


def cluster(session: Session, review: Review, near: Sequence[Near]) -> list[tuple[Review, Near]]:
    """Pending first-stage reviews of images that look like this one, itself among them, nearest first."""
    by_id = {n.screening_id: n for n in near} | {review.screening_id: Near(review.screening_id, 0, "same")}
    statement = _reviews(review.platform_id, by_id, ReviewState.PENDING).where(Review.stage == "first")
    rows = [(row, by_id[row.screening_id]) for row in session.scalars(statement)]
    return sorted(rows, key=lambda pair: (pair[1].distance, pair[0].id))[:MOST_TOGETHER]
