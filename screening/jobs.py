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

from sqlalchemy import CTE, select, text, tuple_, update
from sqlalchemy.orm import Session

from screening import erasure, events, findings, reviews
from screening.errors import Failure, FailureCode, LegalHoldError
from screening.findings import Completion
from screening.ids import Prefix, encode
from screening.jobs_sql import ANNOUNCE, CLAIM_ALONE, CLAIM_BATCH, END_ATTEMPTS, RESCUE
from screening.tables import (
    Finding,
    Image,
    Priority,
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
    return _write(session, claims, due_at=assay_now() + lease)


def _write(session: Session, claims: Sequence[Claim], **values: Any) -> set[UUID]:
    """Write claimed rows, but only those that are still the caller's: the fence behind everything below. Which were."""
    if not claims:
        return set()
    held = _held(claims)
    statement = update(Screening).where(Screening.id == held.c.id).values(**values).returning(Screening.id)
    return set(session.scalars(statement.execution_options(synchronize_session=False)))


def _held(claims: Sequence[Claim]) -> CTE:
    """Those of the claims' rows that still run under them, locked in order: so no two writers wait in a circle."""
    claimed = tuple_(Screening.id, Screening.attempt).in_([(c.screening_id, c.attempt) for c in claims])
    running = select(Screening.id).where(claimed, Screening.state == State.RUNNING)
    return running.order_by(Screening.id).with_for_update().cte("held")


def _end(
    session: Session, claims: Sequence[Claim], outcome: str, detail: str | None = None, **values: Any
) -> set[UUID]:
    """Write claimed rows once and end their attempts; the screenings that were still the caller's."""
    held = _write(session, claims, **values)
    _end_attempts(session, [(c.screening_id, c.attempt) for c in claims], held, outcome, detail)
    return held


def _end_attempts(
    session: Session, attempts: Sequence[tuple[UUID, int]], held: set[UUID], outcome: str, detail: str | None = None
) -> None:
    if attempts:
        ids, numbers = [id for id, _ in attempts], [number for _, number in attempts]
        values = {"ids": ids, "attempts": numbers, "held": list(held), "outcome": outcome, "detail": detail}
        session.execute(text(END_ATTEMPTS), values)


def complete(
    session: Session,
    claim: Claim,
    finding: Finding,
    image: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> bool:
    """Complete one screening; False where the lease was lost: nothing is written."""
    return bool(complete_all(session, [Completion(claim, finding, image, provenance)]))


def complete_all(session: Session, completions: Sequence[Completion]) -> set[UUID]:
    """`running -> succeeded`: findings, policy, reviews and events. Of rows whose lease was lost nothing is written.

    Returns the screenings that were still the caller's. What the database refuses of one, it refuses of all.
    """
    claims = [done.claim for done in completions]
    held = _end(session, claims, "succeeded", state=State.SUCCEEDED, finished_at=assay_now(), alone=False)
    findings.store(session, [done for done in completions if done.claim.screening_id in held])
    events.screenings_ended(session, held)
    return held


def fail(session: Session, claim: Claim, failure: Failure, *, strike: bool, max_strikes: int, retry_in: float) -> bool:
    """Record the image's own failure. A strike below the limit tries again; otherwise `running -> failed`.

    `strike=False` ends at once: what is certain (a text file, too many frames) gains nothing by repetition.
    """
    strikes = claim.strikes + 1
    if strike and strikes < max_strikes:
        wait = timedelta(seconds=retry_in)
        again = {"strikes": strikes, "due_at": assay_now() + wait, "announced_at": None}
        return bool(_end(session, [claim], "released", failure.code, state=State.QUEUED, **again))
    held = _end(session, [claim], "failed", failure.code, strikes=strikes, **_failed(failure))
    events.screenings_ended(session, held)
    return bool(held)


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
    again = {"due_at": assay_now() + timedelta(seconds=retry_in), "announced_at": None}
    return bool(_end(session, [claim], "released", reason, state=State.QUEUED, **again))


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
    _end_attempts(session, [(row.id, row.attempt) for row in rows], {row.id for row in rows}, "expired")
    events.screenings_ended(session, [row.id for row in rows if row.state == State.FAILED])
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
        events.screenings_ended(session, [screening.id])


def hold(session: Session, screening_id: UUID, *, held: bool) -> None:
    """Set or lift the legal hold, under which erasing and retention leave a screening alone."""
    session.execute(update(Screening).where(Screening.id == screening_id).values(legal_hold=held))
