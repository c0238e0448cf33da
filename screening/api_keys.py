"""How does a platform prove who it is? With a random key of which only the hash is kept."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from screening.errors import AssayError
from screening.tables import ApiKey, assay_now

LIVE_AT_ONCE = 2
# `last_used_at` is for people; writing it on each request would make every request a write.
TOUCH_AFTER = timedelta(minutes=1)


class Scope(StrEnum):
    """What a key may do. `read` and `write` are the default; the others are given on purpose."""

    READ = "read"
    WRITE = "write"
    REVIEW = "review"
    ADMIN = "admin"


class TooManyKeysError(AssayError):
    """The platform has two live keys; revoke one first."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request speaks for."""

    platform_id: UUID
    key_id: UUID
    scopes: frozenset[str]


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def create(session: Session, platform_id: UUID, scopes: frozenset[Scope]) -> str:
    """A new key, returned this once. Raises TooManyKeysError beyond two live ones."""
    live = select(func.count()).where(ApiKey.platform_id == platform_id, ApiKey.revoked_at.is_(None))
    if (session.scalar(live) or 0) >= LIVE_AT_ONCE:
        raise TooManyKeysError(f"The platform already has {LIVE_AT_ONCE} live keys: revoke one first.")
    key = f"ask_{secrets.token_urlsafe(32)}"
    session.add(
        ApiKey(platform_id=platform_id, secret_hash=_hash(key), hint=key[-4:], scopes=sorted(s.value for s in scopes))
    )
    session.flush()
    return key


def revoke(session: Session, key_id: UUID) -> bool:
    """End a key at once; False where there is no live key of this id."""
    statement = update(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None)).values(revoked_at=assay_now())
    return session.scalar(statement.returning(ApiKey.id)) is not None


def authenticate(session: Session, key: str) -> Caller | None:
    """The caller behind a key, or None for an unknown or revoked one.

    The lookup is by hash, so its time tells nothing about the key.
    """
    row = session.scalars(select(ApiKey).where(ApiKey.secret_hash == _hash(key), ApiKey.revoked_at.is_(None))).first()
    if row is None:
        return None
    if row.last_used_at is None or row.last_used_at < datetime.now(UTC) - TOUCH_AFTER:
        session.execute(
            update(ApiKey)
            .where(ApiKey.id == row.id)
            .values(last_used_at=assay_now())
            .execution_options(synchronize_session=False)
        )
    return Caller(row.platform_id, row.id, frozenset(row.scopes))
