"""Has this very request been made before? Then its answer is replayed instead of doing the work twice.

The work and its stored answer commit together, in one transaction that holds an advisory lock on the key. So there is
no half-made record: a process that dies while it holds a key takes the lock with it, and nothing has happened.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from screening.errors import AssayError
from screening.tables import IdempotencyRecord, assay_now

# One statement, and no waiting: a second request is told so at once.
LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))"


class KeyInUseError(AssayError):
    """A request with this key is running; ask again when it has ended."""


class KeyReusedError(AssayError):
    """The key belongs to a request with another body; take a new key."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that carries a key: its scope is the platform, method and path. `fingerprint` says what it means."""

    platform_id: UUID
    scope: str  # "POST /v1/screenings"
    key: str
    fingerprint: bytes
    kept_hours: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered, or what was answered the first time."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any] | None
    replayed: bool = False


def fingerprint(*parts: bytes) -> bytes:
    """One hash over the parts of a request that make it what it is, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def once(session: Session, request: Request | None, work: Callable[[Session], Answer]) -> Answer:
    """Do the work in the caller's transaction, unless the request was answered before.

    Raises KeyInUseError and KeyReusedError. Work that raises leaves no record, so it may be tried again.
    """
    if request is None:
        return work(session)
    if not session.scalar(text(LOCK), {"name": f"{request.platform_id}\n{request.scope}\n{request.key}"}):
        raise KeyInUseError("A request with this idempotency key is still running.")
    known = find(session, request)
    if known is not None:
        return known
    _forget(session, request)
    answer = work(session)
    session.add(
        IdempotencyRecord(
            platform_id=request.platform_id, scope=request.scope, key=request.key, fingerprint=request.fingerprint,
            status=answer.status, headers=answer.headers, body=answer.body,
        )
    )  # fmt: skip
    session.flush()
    return answer


def find(session: Session, request: Request) -> Answer | None:
    """The stored answer of an earlier request, or None. Raises KeyReusedError where that one was another."""
    statement = select(IdempotencyRecord).where(
        *_is(request), IdempotencyRecord.created_at > assay_now() - timedelta(hours=request.kept_hours)
    )
    record = session.scalars(statement).first()
    if record is None or record.status is None:
        return None
    if record.fingerprint != request.fingerprint:
        raise KeyReusedError("This idempotency key was used for a request with another body. Take a new key.")
    return Answer(record.status, dict(record.headers or {}), record.body, replayed=True)


def _is(request: Request) -> tuple[Any, ...]:
    return (
        IdempotencyRecord.platform_id == request.platform_id,
        IdempotencyRecord.scope == request.scope,
        IdempotencyRecord.key == request.key,
    )


def _forget(session: Session, request: Request) -> None:
    session.execute(delete(IdempotencyRecord).where(*_is(request)).execution_options(synchronize_session=False))


def purge(session: Session, *, older_than: timedelta) -> int:
    """Delete expired records; returns how many."""
    statement = delete(IdempotencyRecord).where(IdempotencyRecord.created_at < assay_now() - older_than)
    return len(session.scalars(statement.returning(IdempotencyRecord.key)).all())
