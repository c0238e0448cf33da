"""How do a hundred requests wait for a hundred screenings without a hundred pollers? One query for all of them.

While anybody waits, one task asks ten times a second which of the awaited screenings have ended: one indexed lookup,
about a millisecond, whatever the number of waiters, and nothing at all when nobody waits. LISTEN/NOTIFY would save
that query, but it takes a lock at every commit of every worker, a connection that lives for ever, and does not pass
through a pooler.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from screening import progress

logger = structlog.get_logger(__name__)

INTERVAL = 0.1


class Waiting:
    """Futures by screening, resolved by one poller."""

    def __init__(self, run: Callable[..., Awaitable[Any]]) -> None:
        self._run = run
        self._waiters: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self._poller: asyncio.Task[None] | None = None

    async def ended(self, screening_id: UUID, seconds: float) -> bool:
        """Wait until the screening has ended; False when time ran out first."""
        event = asyncio.Event()
        self._waiters[screening_id].add(event)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        else:
            return True
        finally:
            self._forget(screening_id, event)

    def _forget(self, screening_id: UUID, event: asyncio.Event) -> None:
        self._waiters[screening_id].discard(event)
        if not self._waiters[screening_id]:
            del self._waiters[screening_id]

    async def _poll(self) -> None:
        while self._waiters:
            await asyncio.sleep(INTERVAL)
            try:
                ended = await self._run(progress.ended, list(self._waiters))
            except SQLAlchemyError as error:  # the database may come back before the waiters' time is up
                logger.warning("waiting.blind", error=type(error).__name__)
                continue
            for screening_id in ended:
                for event in self._waiters.get(screening_id, ()):
                    event.set()

    async def close(self) -> None:
        """End the poller."""
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)
