"""May another screening be queued now? Not when the oldest due one has waited too long: 503 instead of a lie.

The age is read at most once a second, whatever the traffic.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from api.problems import BACK_PRESSURE, Problem
from screening import progress

FRESH_SECONDS = 1.0
RETRY_SECONDS = 30  # a queue minutes old does not drain in seconds


class Backpressure:
    """The age of the oldest due screening, cached."""

    def __init__(self, run: Callable[..., Awaitable[Any]], limit_seconds: float) -> None:
        self._run = run
        self._limit = limit_seconds
        self._age = 0.0
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def check(self) -> None:
        """Raise Problem 503 while the queue is too old."""
        if await self._current() > self._limit:
            raise Problem(
                BACK_PRESSURE,
                "Screenings wait too long already. Send this one again later.",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )

    async def _current(self) -> float:
        if time.monotonic() - self._read_at < FRESH_SECONDS:
            return self._age
        async with self._reading:
            if time.monotonic() - self._read_at >= FRESH_SECONDS:
                self._age = await self._run(progress.oldest_due_seconds)
                self._read_at = time.monotonic()
        return self._age
