"""How do the bytes of erased screenings leave the blob store? Rows first, then bytes, then the note that they are gone.

A crash between two steps is taken up by the next run: whatever has no such note is looked at again.
"""

from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy.orm import Session, sessionmaker

from screening import retention
from screening.blobs import BlobStore
from screening.errors import BlobStoreError
from screening.retention import Erased

logger = structlog.get_logger(__name__)

AT_ONCE = 100  # rows a transaction


@dataclass(slots=True)
class Purged:
    """What one run did."""

    expired: int = 0
    purged: int = 0
    failed: int = 0


def purge(sessions: sessionmaker[Session], store: BlobStore) -> Purged:
    """Erase what is past its retention, then remove the bytes of everything erased."""
    done = Purged()
    while True:
        with sessions.begin() as session:
            count = retention.erase_expired(session, limit=AT_ONCE)
        done.expired += count
        if count < AT_ONCE:
            break
    after = UUID(int=0)
    while True:
        with sessions() as session:
            rows = retention.unpurged(session, limit=AT_ONCE, after=after)
        if not rows:
            return done
        _remove(sessions, store, rows, done)
        after = rows[-1].screening_id


def _remove(sessions: sessionmaker[Session], store: BlobStore, rows: list[Erased], done: Purged) -> None:
    gone = []
    for row in rows:
        try:
            store.delete(store.keys(row.prefix))
        except BlobStoreError as error:
            done.failed += 1
            logger.warning("purge.blob_store", prefix=row.prefix, error=str(error))
            continue
        if row.settled:
            gone.append(row.screening_id)
    if gone:
        with sessions.begin() as session:
            retention.purged(session, gone)
    done.purged += len(gone)
