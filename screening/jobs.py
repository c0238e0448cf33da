"""What is the whole life of a screening, and who may change its row?

This module alone writes job rows; `progress` reads them. PostgreSQL is the truth: a row is claimed with `FOR UPDATE
SKIP LOCKED`, holds a lease while it runs, and every later write names the `attempt` under which it was claimed, so that
a worker that lost its lease changes nothing. Each function works in the caller's transaction and never commits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text, tuple_, update
from sqlalchemy.orm import Session

from screening import erasure, events, policies, reviews
from screening.errors import Failure, FailureCode, LegalHoldError
from screening.ids import Prefix, encode
from screening.jobs_sql import ANNOUNCE, CLAIM_ALONE, CLAIM_BATCH, RESCUE
from screening.tables import (
    Attempt,
    Finding,
    Image,
    Priority,
    Provenance,
    Screening,
    State,
    Submission,
    assay_now,
)

# A row's rank is its creation time less this. Strict priorities would starve bulk; a head start lets waiting catch up.
HEAD_START = {
    Priority.HIGH: timedelta(minutes=10),
    Priority.NORMAL: timedelta(0),
    Priority.BULK: timedelta(hours=-1),
}


@dataclass(frozen=True, slots=True)
class Intake:
    """What enqueueing needs beside the row's own id. `image` is None for a source that the worker fetches."""

    platform_id: UUID
    screening_id: UUID
    priority: Priority = Priority.NORMAL
    client_ref: str | None = None
    details: dict[str, Any] | None = None
    source: dict[str, Any] | None = None
    filename: str | None = None
    traceparent: str | None = None
    image: Image | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A row in a worker's hands: everything the pipeline needs, fenced by `attempt`."""

    screening_id: UUID
    platform_id: UUID
    attempt: int
    strikes: int
    alone: bool
    priority: str
    created_at: datetime
    started_at: datetime
    source: dict[str, Any] | None
    traceparent: str | None
    image_id: UUID | None
    blob_key: str | None
    sha256: bytes | None


def enqueue(session: Session, intake: Intake) -> Screening:
    """Insert a `queued` row with what came along. The caller's commit is the promise behind the 202."""
    row = Screening(
        id=intake.screening_id,
        platform_id=intake.platform_id,
        priority=intake.priority.value,
        client_ref=intake.client_ref,
        rank=assay_now() - HEAD_START[intake.priority],
        announced_at=assay_now(),
        submission=Submission(
            source=intake.source,
            details=intake.details or {},
            filename=intake.filename,
            traceparent=intake.traceparent,
        ),
        image=intake.image,
        finding=None,
    )
    session.add(row)
    session.flush()
    return row


@dataclass(frozen=True, slots=True)
class Sated:
    """Whose rows are not to be claimed while their bytes are still to be fetched."""

    everyone: bool = False
    platforms: Sequence[UUID] = ()


def claim(session: Session, *, limit: int, worker: str, lease: timedelta, sated: Sated | None = None) -> list[Claim]:
    """Take up to `limit` due rows, shared among platforms by weight; the attempt is bumped, the lease set.

    Rows whose lease once expired are not among them: `claim_alone` takes those, one at a time.
    """
    sated = sated or Sated()
    names = {"sated": sated.everyone, "sated_platforms": list(sated.platforms)}
    values = {"limit": limit, "pool": 4 * limit, "lease": lease, "worker": worker, **names}
    return [Claim(**row) for row in session.execute(text(CLAIM_BATCH), values).mappings()]


def claim_alone(session: Session, *, worker: str, lease: timedelta) -> list[Claim]:
    """Take one row that a worker died with, so that a poison image takes no neighbour along."""
    values = {"lease": lease, "worker": worker}
    return [Claim(**row) for row in session.execute(text(CLAIM_ALONE), values).mappings()]


def heartbeat(session: Session, claims: Sequence[Claim], *, lease: timedelta) -> set[UUID]:
    """Renew the leases still held; returns the screenings that are still the caller's."""
    if not claims:
        return set()
    held = tuple_(Screening.id, Screening.attempt).in_([(c.screening_id, c.attempt) for c in claims])
    statement = (
        update(Screening)
        .where(held, Screening.state == State.RUNNING)
        .values(due_at=assay_now() + lease)
        .returning(Screening.id)
        .execution_options(synchronize_session=False)
    )
    return set(session.scalars(statement))


def _end(session: Session, claim: Claim, outcome: str, detail: str | None = None, **values: Any) -> bool:
    """Write a claimed row once, if it is still the caller's; the fence behind complete, fail and release."""
    statement = (
        update(Screening)
        .where(Screening.id == claim.screening_id, Screening.attempt == claim.attempt, Screening.state == State.RUNNING)
        .values(**values)
        .returning(Screening.id)
        .execution_options(synchronize_session=False)
    )
    held = session.scalar(statement) is not None
    _end_attempt(session, claim.screening_id, claim.attempt, outcome if held else "fenced", detail)
    return held


def _end_attempt(session: Session, screening_id: UUID, attempt: int, outcome: str, detail: str | None) -> None:
    session.execute(
        update(Attempt)
        .where(Attempt.screening_id == screening_id, Attempt.attempt == attempt, Attempt.ended_at.is_(None))
        .values(ended_at=assay_now(), outcome=outcome, detail=detail)
        .execution_options(synchronize_session=False)
    )


def complete(
    session: Session,
    claim: Claim,
    finding: Finding,
    image: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> bool:
    """`running -> succeeded`: finding, policy, review and event. False where the lease was lost: nothing is written.

    `image` holds the image's columns that only decoding could tell, `provenance` the columns of its report.
    """
    if not _end(session, claim, "succeeded", state=State.SUCCEEDED, finished_at=assay_now(), alone=False):
        return False
    finding.accepted_at = claim.created_at
    if image:
        session.execute(update(Image).where(Image.screening_id == claim.screening_id).values(**image))
    if provenance:
        session.add(Provenance(screening_id=claim.screening_id, platform_id=claim.platform_id, **provenance))
    ruling = policies.apply(session, finding, priority=claim.priority, metadata=_metadata(session, claim))
    session.add(finding)
    session.flush()
    reviews.open_for(session, finding, ruling)
    events.screening_ended(session, claim.screening_id)
    return True


def _metadata(session: Session, claim: Claim) -> dict[str, Any]:
    """What the platform said about the image, which its policy may ask about."""
    statement = select(Submission.details).where(Submission.screening_id == claim.screening_id)
    details: dict[str, Any] = session.scalars(statement).one()
    return details


def fail(session: Session, claim: Claim, failure: Failure, *, strike: bool, max_strikes: int, retry_in: float) -> bool:
    """Record the image's own failure. A strike below the limit tries again; otherwise `running -> failed`.

    `strike=False` ends at once: what is certain (a text file, too many frames) gains nothing by repetition.
    """
    strikes = claim.strikes + 1
    if strike and strikes < max_strikes:
        wait = timedelta(seconds=retry_in)
        return _end(
            session, claim, "released", failure.code,
            state=State.QUEUED, strikes=strikes, due_at=assay_now() + wait, announced_at=None,
        )  # fmt: skip
    if not _end(session, claim, "failed", failure.code, strikes=strikes, **_failed(failure)):
        return False
    events.screening_ended(session, claim.screening_id)
    return True


def _failed(failure: Failure) -> dict[str, Any]:
    return {
        "state": State.FAILED,
        "finished_at": assay_now(),
        "error_code": failure.code.value,
        "error_detail": failure.detail,
        "error_retryable": failure.retryable,
        "alone": False,
    }


def release(session: Session, claim: Claim, *, reason: str, retry_in: float) -> bool:
    """Give a row back without a strike: shutdowns and storage or GPU-memory errors are not the image's fault."""
    wait = timedelta(seconds=retry_in)
    return _end(
        session, claim, "released", reason, state=State.QUEUED, due_at=assay_now() + wait, announced_at=None
    )  # fmt: skip


def fetched(session: Session, claim: Claim, image: Image, *, lease: timedelta) -> bool:
    """Attach the bytes that the worker fetched for a source, if the row is still the caller's. Idempotent."""
    if claim.screening_id not in heartbeat(session, [claim], lease=lease):
        return False
    if session.scalar(select(Image.id).where(Image.screening_id == claim.screening_id)) is None:
        session.add(image)
        session.flush()
    return True


def rescue(session: Session, *, limit: int, max_strikes: int) -> int:
    """Queue rows whose lease has expired, to be claimed alone next; returns how many.

    A crash in company says nothing about which image caused it, so it costs no strike; a crash while alone does, and
    the last strike ends the row as `failed`.
    """
    rows = session.execute(text(RESCUE), {"limit": limit, "max_strikes": max_strikes}).all()
    for row in rows:
        _end_attempt(session, row.id, row.attempt, "expired", None)
        if row.state == State.FAILED:
            events.screening_ended(session, row.id)
    return len(rows)


def unannounced(session: Session, *, limit: int, older_than: timedelta) -> list[UUID]:
    """Mark and return rows that are due but were not announced lately: their doorbell may be lost."""
    return list(session.scalars(text(ANNOUNCE), {"limit": limit, "older_than": older_than}))


def erase(session: Session, screening: Screening) -> None:
    """Fence whoever works on the row, end it if it has not ended, and leave a stub. The caller removes the bytes.

    Raises LegalHoldError. A second time changes nothing.
    """
    columns = select(Screening.state, Screening.legal_hold, Screening.erased_at)
    state, held, erased_at = session.execute(columns.where(Screening.id == screening.id).with_for_update()).one()
    if erased_at is not None:
        return
    if held:
        raise LegalHoldError("The screening is under legal hold: lift the hold first.")
    erasure.scrub(session, screening.id, encode(Prefix.SCREENING, screening.id))
    statement = update(Screening).where(Screening.id == screening.id)
    values: dict[str, Any] = {"erased_at": assay_now(), "attempt": Screening.attempt + 1, "client_ref": None}
    live = state in (State.QUEUED, State.RUNNING)
    if live:
        values |= _failed(Failure(FailureCode.ERASED, "The platform erased this screening before it had ended."))
    session.execute(statement.values(**values).execution_options(synchronize_session=False))
    reviews.withdraw(session, screening.id)
    if live:
        events.screening_ended(session, screening.id)


def hold(session: Session, screening_id: UUID, *, held: bool) -> None:
    """Set or lift the legal hold, under which erasing and retention leave a screening alone."""
    session.execute(update(Screening).where(Screening.id == screening_id).values(legal_hold=held))
