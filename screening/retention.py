"""Which screenings does their platform no longer want kept?

`platforms.retention_days` after they were sent, unless under legal hold. Erasing is `jobs.erase`; whoever calls it also
removes the bytes, and `recently_erased` names what to look at again in case that never happened.
"""

from sqlalchemy import text
from sqlalchemy.orm import Session

from screening import blobs, jobs
from screening.tables import Screening

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

# Long enough for any worker that was fenced by an erasure to have put its late files in place.
_RECENTLY = """
SELECT platform_id, id FROM screenings
 WHERE erased_at > assay_now() - interval '2 days' AND id > :after
 ORDER BY id LIMIT :limit
"""


def due(session: Session) -> bool:
    """Whether anything is past its retention, or was erased so lately that files may still have to go."""
    expired = session.execute(text(_EXPIRED), {"limit": 1}).first()
    return expired is not None or bool(recently_erased(session, limit=1))


def erase_expired(session: Session, *, limit: int) -> list[str]:
    """Erase rows past their retention; returns the blob prefixes that the caller empties after its commit."""
    ids = session.scalars(text(_EXPIRED), {"limit": limit}).all()
    rows = [session.get_one(Screening, screening_id) for screening_id in ids]
    for row in rows:
        jobs.erase(session, row)
    return [blobs.screening_prefix(row.platform_id, row.id) for row in rows]


def recently_erased(session: Session, *, limit: int, after: str = "00000000-0000-0000-0000-000000000000") -> list[str]:
    """Blob prefixes of screenings erased within two days, by id from `after` on."""
    rows = session.execute(text(_RECENTLY), {"limit": limit, "after": after})
    return [blobs.screening_prefix(row.platform_id, row.id) for row in rows]
