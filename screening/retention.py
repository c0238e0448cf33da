"""Which bytes may no longer be kept, and which belong to nobody?

`platforms.retention_days` after it was sent a screening is erased, unless under legal hold. Erasing is `jobs.erase`,
and leaves `purged_at` empty until the bytes are known to be gone. Orphans are blobs whose screening was never
committed, was erased, or has another attempt's finding. Functions work in the caller's transaction and never commit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import blobs, jobs
from screening.tables import Screening

# Longer than any fenced worker or half-done upload can still be writing; a blob of a younger row is left alone.
SETTLED = timedelta(hours=1)
ORPHANED = timedelta(hours=24)

_FIRST = UUID(int=0)

_EXPIRED = """
SELECT s.id FROM platforms p
 CROSS JOIN LATERAL (
    SELECT id FROM screenings
     WHERE platform_id = p.id AND created_at < assay_now() - make_interval(days => p.retention_days)
       AND state IN ('succeeded', 'failed') AND erased_at IS NULL AND NOT legal_hold
     ORDER BY created_at LIMIT :limit
       FOR UPDATE SKIP LOCKED) s
 WHERE p.retention_days IS NOT NULL
 LIMIT :limit
"""

_UNPURGED = """
SELECT platform_id, id, erased_at < assay_now() - :settled AS settled FROM screenings
 WHERE erased_at IS NOT NULL AND purged_at IS NULL AND id > :after
 ORDER BY id LIMIT :limit
"""

_PURGED = "UPDATE screenings SET purged_at = assay_now() WHERE id = ANY(:ids)"

_OWNERS = """
SELECT s.id, s.platform_id, s.erased_at IS NOT NULL AS erased, f.attempt,
       s.finished_at < assay_now() - :orphaned AS settled
  FROM screenings s LEFT JOIN findings f ON f.screening_id = s.id
 WHERE s.id = ANY(:ids)
"""


@dataclass(frozen=True, slots=True)
class Erased:
    """An erased screening whose bytes may still be there. Once settled, nobody can be writing more."""

    screening_id: UUID
    prefix: str
    settled: bool


@dataclass(frozen=True, slots=True)
class Owner:
    """What is known of the screening that a blob's key names. `attempt` is the one whose finding stands."""

    platform_id: UUID
    erased: bool
    attempt: int | None
    settled: bool


def due(session: Session) -> bool:
    """Whether anything is past its retention, or was erased and may still have bytes."""
    expired = session.execute(text(_EXPIRED), {"limit": 1}).first()
    return expired is not None or bool(unpurged(session, limit=1))


def erase_expired(session: Session, *, limit: int) -> int:
    """Erase up to `limit` screenings past their retention; returns how many. Their bytes go by `unpurged`."""
    ids = session.scalars(text(_EXPIRED), {"limit": limit}).all()
    for screening_id in ids:
        jobs.erase(session, session.get_one(Screening, screening_id))
    return len(ids)


def unpurged(session: Session, *, limit: int, after: UUID = _FIRST) -> list[Erased]:
    """Erased screenings whose bytes are not known to be gone, by id from `after` on."""
    rows = session.execute(text(_UNPURGED), {"limit": limit, "after": after, "settled": SETTLED})
    return [Erased(row.id, blobs.screening_prefix(row.platform_id, row.id), row.settled) for row in rows]


def purged(session: Session, ids: Sequence[UUID]) -> None:
    """Note that nothing is left under these screenings' prefixes."""
    session.execute(text(_PURGED), {"ids": list(ids)})


def owners(session: Session, ids: Sequence[UUID]) -> dict[UUID, Owner]:
    """What is known of these screenings; those that were never committed are missing."""
    rows = session.execute(text(_OWNERS), {"ids": list(ids), "orphaned": ORPHANED})
    return {row.id: Owner(row.platform_id, row.erased, row.attempt, bool(row.settled)) for row in rows}
