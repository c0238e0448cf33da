"""How far has the work come? Questions to the job rows; `jobs` alone changes them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select, text, tuple_
from sqlalchemy.orm import Session

from screening.jobs import Claim
from screening.tables import TERMINAL, Finding, Screening, State, assay_now

# What the indexes of waiting rows are asked by, always in their order; see `CLAIM_BATCH` for why not by comparison.
QUEUED = text("texteq(screenings.state, 'queued')")


def due_left(session: Session) -> bool:
    """Whether any row could be claimed now."""
    statement = select(Screening.id).where(QUEUED, Screening.due_at <= assay_now())
    return session.scalar(statement.order_by(Screening.due_at).limit(1)) is not None


def alone_due(session: Session) -> bool:
    """Whether `claim_alone` would find a row: a worker empties its hands before it takes one."""
    statement = select(Screening.id).where(Screening.state == State.QUEUED, Screening.alone)
    return session.scalar(statement.where(Screening.due_at <= assay_now()).limit(1)) is not None


def oldest_due_seconds(session: Session) -> float:
    """Age of the oldest due, unclaimed row in seconds; 0 with none. What back-pressure and scaling read."""
    oldest = select(func.min(Screening.due_at)).where(QUEUED, Screening.due_at <= assay_now())
    age = session.scalar(select(func.extract("epoch", assay_now() - oldest.scalar_subquery())))
    return float(age or 0.0)


def queued(session: Session, platform_id: UUID, *, at_most: int) -> int:
    """How many rows of a platform wait, counted no further than `at_most`: what quotas read.

    The few rows that wait to be claimed alone are left out, so that the count walks one index.
    """
    rows = select(Screening.id).where(Screening.platform_id == platform_id, QUEUED, ~Screening.alone)
    counted = rows.order_by(Screening.rank).limit(at_most).subquery()
    return session.scalar(select(func.count()).select_from(counted)) or 0


def ended(session: Session, ids: Sequence[UUID]) -> set[UUID]:
    """Which of these screenings have ended: what `Prefer: wait` asks."""
    return set(session.scalars(select(Screening.id).where(Screening.id.in_(ids), Screening.state.in_(TERMINAL))))


def recorded(session: Session, claims: Sequence[Claim]) -> set[UUID]:
    """Of which of these very attempts the finding is stored: its commit went through although the answer was lost."""
    attempts = tuple_(Finding.screening_id, Finding.attempt).in_([(c.screening_id, c.attempt) for c in claims])
    return set(session.scalars(select(Finding.screening_id).where(attempts)))


def erased(session: Session, screening_id: UUID) -> bool:
    """Whether the platform has erased this screening."""
    return session.scalar(select(Screening.erased_at).where(Screening.id == screening_id)) is not None
