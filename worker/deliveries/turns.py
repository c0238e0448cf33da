"""Which sender may stop claiming? One at a time, so that another is there for what becomes due meanwhile.

A drain that is over waits for its last attempts. Drains that began together would end together, and one platform's slow
receivers would then keep everybody else's deliveries waiting for as long as an attempt may take.
"""

import time
from contextlib import suppress

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from screening.deliveries import LOCK_FAMILY
from screening.deliveries_sql import END_LOCK


class Turn:
    """A drain's turn to end: from `begins` on, once it is nobody else's, and at `latest` in any case (monotonic)."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], begins: float, latest: float) -> None:
        self._sessions = sessions
        self._begins = begins
        self._latest = latest
        self._holding: AsyncSession | None = None

    async def has_come(self) -> bool:
        """Whether to stop claiming. Once it has come, it stays."""
        now = time.monotonic()
        if self._holding is not None or now >= self._latest:
            return True
        return now >= self._begins and await self._take()

    async def _take(self) -> bool:
        """Take the lock; a transaction that stays open keeps it."""
        session = self._sessions()
        try:
            taken = bool(await session.scalar(text(END_LOCK), {"family": LOCK_FAMILY}))
        except SQLAlchemyError:
            taken = False  # the exchange that follows meets the same, and knows what to do
        if taken:
            self._holding = session
        else:
            await _close(session)
        return taken

    async def give_up(self) -> None:
        """The drain has ended: let the next one."""
        if self._holding is not None:
            await _close(self._holding)


async def _close(session: AsyncSession) -> None:
    with suppress(SQLAlchemyError):  # a server that is gone has let go of the lock
        await session.close()
