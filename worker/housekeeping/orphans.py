"""Which blobs belong to nobody? Those whose screening was never committed, or whose attempt's finding does not stand.

An upload whose commit failed and a worker that lost its lease both try to take their files back; what they could not
is found here. The age of a blob is the time in its screening's UUIDv7, so no store need tell when something was
written, and nothing younger than a day is touched.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from screening import retention
from screening.blobs import BlobStore
from screening.retention import ORPHANED, Owner
from screening.tables import assay_now

logger = structlog.get_logger(__name__)

AT_ONCE = 5_000  # keys a look at the database


def sweep(sessions: sessionmaker[Session], store: BlobStore) -> int:
    """Look at every key of the store and delete the orphans; returns how many. Raises BlobStoreError."""
    keys = store.keys("")
    removed = 0
    while batch := list(islice(keys, AT_ONCE)):
        with sessions() as session:
            orphans = list(_orphans(session, batch))
        store.delete(orphans)
        removed += len(orphans)
    if removed:
        logger.info("orphans.removed", count=removed)
    return removed


def _orphans(session: Session, keys: Iterable[str]) -> Iterator[str]:
    by_screening: dict[UUID, list[tuple[str, UUID, str]]] = defaultdict(list)
    for key in keys:
        parts = key.split("/")
        if len(parts) >= 3 and (named := _uuids(parts[0], parts[1])) is not None:
            by_screening[named[1]].append((key, named[0], parts[2]))
    now = session.scalar(select(assay_now())) or datetime.now(UTC)
    known = retention.owners(session, list(by_screening))
    for screening_id, blobs in by_screening.items():
        old = now - _made_at(screening_id) > ORPHANED
        for key, platform_id, part in blobs:
            if old and _is_orphan(known.get(screening_id), platform_id, part):
                yield key


def _is_orphan(owner: Owner | None, platform_id: UUID, part: str) -> bool:
    """Whether nothing speaks of a blob. `part` is `image`, or the attempt that derived it."""
    if owner is None or owner.platform_id != platform_id:
        return True
    stale = part.isdecimal() and owner.attempt != int(part)
    return owner.settled and (owner.erased or stale)


def _uuids(platform: str, screening: str) -> tuple[UUID, UUID] | None:
    """The ids that a key begins with; None for keys that are none of a screening."""
    try:
        return UUID(hex=platform), UUID(hex=screening)
    except ValueError:
        return None


def _made_at(id: UUID) -> datetime:
    """The time in a UUIDv7 (RFC 9562, section 5.7)."""
    return datetime.fromtimestamp((id.int >> 80) / 1000, UTC)
