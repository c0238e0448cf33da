"""Can this process do its work? What each part of it says, asked side by side and within a deadline."""

import asyncio
import time
from collections.abc import Awaitable

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api.services import Services
from screening import migrate
from screening.errors import BlobStoreError

SECONDS = 3.0
FRESH_SECONDS = 2.0  # probes come from several sides, and each writes a blob

OK, AWAY, OUTDATED = "ok", "away", "outdated"


class Readiness:
    """The checks, cached for a moment."""

    def __init__(self) -> None:
        self._asked_at = float("-inf")
        self._checks: dict[str, str] = {}
        self._lock = asyncio.Lock()

    async def checks(self, services: Services) -> dict[str, str]:
        """`ok`, `away` or `outdated` for database, migrations, blobs and redis."""
        async with self._lock:
            if time.monotonic() - self._asked_at > FRESH_SECONDS:
                self._checks = await _ask(services)
                self._asked_at = time.monotonic()
        return self._checks


def ready(checks: dict[str, str]) -> bool:
    """Redis is reported, not required: intake works without it."""
    return all(state == OK for name, state in checks.items() if name != "redis")


async def _ask(services: Services) -> dict[str, str]:
    migrations, blobs, bell = await asyncio.gather(
        _within(services.database.run(_migrated)),
        _within(run_in_threadpool(_blobs, services)),
        _within(run_in_threadpool(_redis, services.settings.redis_url)),
    )
    database = AWAY if migrations == AWAY else OK
    return {"database": database, "migrations": migrations, "blobs": blobs, "redis": bell}


async def _within(check: Awaitable[str]) -> str:
    try:
        async with asyncio.timeout(SECONDS):
            return await check
    except (TimeoutError, SQLAlchemyError, OSError):
        return AWAY


def _migrated(session: Session) -> str:
    return OK if migrate.is_current(session.connection()) else OUTDATED


def _blobs(services: Services) -> str:
    try:
        services.blobs.check()
    except BlobStoreError:
        return AWAY
    return OK


def _redis(url: str) -> str:
    try:
        retry = Retry(NoBackoff(), 0)
        with redis.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1, retry=retry) as client:
            return OK if client.ping() else AWAY
    except redis.RedisError:
        return AWAY
