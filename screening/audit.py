"""Who did what, and can anybody have changed the record since?

Each entry's hash covers its content and the hash before it. Whoever alters an entry must rewrite every later one, and
whoever keeps the newest hash elsewhere (`verify` returns it) sees even that.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from screening.tables import AuditEntry, assay_now

GENESIS = bytes(32)
# Appending needs the entry before it, so writers take turns. Held to the end of the transaction: append last.
CHAIN_LOCK = 0x6173_7361_7901
AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of reading the whole chain. `broken_at` is the first altered entry, and `why` says what is wrong."""

    entries: int
    head: bytes
    broken_at: int | None = None
    why: str | None = None


def append(
    session: Session,
    *,
    actor: str,
    action: str,
    subject: str,
    platform_id: UUID | None = None,
    details: dict[str, Any] | None = None,
) -> AuditEntry:
    """Add one entry in the caller's transaction. Details hold facts and hashes, never free text that may be erased."""
    session.execute(select(func.pg_advisory_xact_lock(CHAIN_LOCK)))
    newest = select(AuditEntry.sequence, AuditEntry.hash).order_by(AuditEntry.sequence.desc()).limit(1)
    before = session.execute(newest).first()
    sequence, previous = (0, GENESIS) if before is None else (before[0], before[1])
    entry = AuditEntry(
        sequence=sequence + 1,
        at=session.scalar(select(assay_now())),
        platform_id=platform_id,
        actor=actor,
        action=action,
        subject=subject,
        details=canonical(details or {}),
        previous_hash=previous,
    )
    entry.hash = entry_hash(entry)
    session.add(entry)
    session.flush()
    return entry


def canonical(value: object) -> str:
    """JSON with one spelling for one meaning."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def entry_hash(entry: AuditEntry) -> bytes:
    """SHA-256 over the previous hash and every other column."""
    content = [
        entry.sequence,
        _instant(entry.at),
        None if entry.platform_id is None else entry.platform_id.hex,
        entry.actor,
        entry.action,
        entry.subject,
        entry.details,
    ]
    return hashlib.sha256(entry.previous_hash + canonical(content).encode()).digest()


def _instant(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds")


def verify(session: Session) -> Verification:
    """Read the chain from its start to the first entry that does not fit, or to its end."""
    count, head = 0, GENESIS
    while True:
        entries = session.scalars(
            select(AuditEntry).where(AuditEntry.sequence > count).order_by(AuditEntry.sequence).limit(AT_ONCE)
        ).all()
        count, head, why = _walk(entries, count, head)
        if why or len(entries) < AT_ONCE:
            return Verification(count, head, count + 1 if why else None, why)
        for entry in entries:
            session.expunge(entry)


def verify_newest(session: Session, most: int) -> Verification:
    """The same for the newest entries alone, at a bounded cost; `entries` counts those that were read."""
    newest = session.scalars(select(AuditEntry).order_by(AuditEntry.sequence.desc()).limit(most + 1)).all()
    rows = list(reversed(newest))
    foundation, head = 0, GENESIS
    if len(rows) > most:  # the one before the first is only its foundation
        foundation, head = rows[0].sequence, rows[0].hash
        rows = rows[1:]
    count, head, why = _walk(rows, foundation, head)
    return Verification(count - foundation, head, count + 1 if why else None, why)


def _walk(entries: Iterable[AuditEntry], count: int, head: bytes) -> tuple[int, bytes, str | None]:
    """Go on from the entry `count`, whose hash is `head`: how far entries fit, and why not further."""
    for entry in entries:
        if why := _flaw(entry, count, head):
            return count, head, why
        count, head = entry.sequence, entry.hash
    return count, head, None


def knows(session: Session, head: str) -> bool:
    """Whether an entry of this hash (hex) is in the chain."""
    try:
        wanted = bytes.fromhex(head)
    except ValueError:
        return False
    return session.scalar(select(AuditEntry.sequence).where(AuditEntry.hash == wanted).limit(1)) is not None


def _flaw(entry: AuditEntry, count: int, head: bytes) -> str | None:
    if entry.sequence != count + 1:
        return "the entry is missing"
    if entry.previous_hash != head:
        return "the entry does not name the hash of the one before it"
    return None if entry.hash == entry_hash(entry) else "the entry's content does not match its hash"


def digest(text: str) -> str:
    """SHA-256 of a text, in hex: what the chain keeps of what may be erased."""
    return hashlib.sha256(text.encode()).hexdigest()


def to_json(entry: AuditEntry) -> dict[str, Any]:
    """An entry with all that its hash covers."""
    return {
        "sequence": entry.sequence,
        "at": _instant(entry.at),
        "platform_id": None if entry.platform_id is None else entry.platform_id.hex,
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "details": entry.details,
        "previous_hash": entry.previous_hash.hex(),
        "hash": entry.hash.hex(),
    }


def proves_itself(entry: dict[str, Any]) -> bool:
    """Whether an entry as JSON has the hash that it claims. Raises KeyError or ValueError for what is no entry."""
    names = ("sequence", "at", "platform_id", "actor", "action", "subject", "details")
    content = canonical([entry[name] for name in names]).encode()
    found = hashlib.sha256(bytes.fromhex(entry["previous_hash"]) + content).hexdigest()
    return bool(found == entry["hash"])
