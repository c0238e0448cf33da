"""Which images look like the one under review? Answered from an index in this process, brought up to date each time.

An index is built when its platform is first asked about and then only grows; what was erased since is left out by the
query that reads the rows behind the found ids.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from screening import neighbourhood, reviews
from screening.actors import Actor
from screening.neighbourhood import OVERLAP, PAGE, Place
from screening.similar import Likeness, Near, queries

Run = Callable[..., Coroutine[Any, Any, Any]]


@dataclass(slots=True)
class _Known:
    likeness: Likeness = field(default_factory=Likeness)
    last: Place | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Neighbours:
    """One index a platform."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._platforms: dict[UUID, _Known] = {}

    async def near(self, actor: Actor, review_id: UUID) -> list[Near]:
        """Images of the review's platform that look like its own. Raises NotGrantedError."""
        platform_id, asked = await self._run(_asked, actor, review_id)
        if asked is None:
            return []
        known = self._platforms.setdefault(platform_id, _Known())
        async with known.lock:
            await self._catch_up(platform_id, known)
            return await asyncio.to_thread(known.likeness.near, queries(*asked))

    async def _catch_up(self, platform_id: UUID, known: _Known) -> None:
        after = None if known.last is None else (known.last[0] - OVERLAP, UUID(int=0))
        while True:
            page = await self._run(neighbourhood.hashed_since, platform_id, after)
            await asyncio.to_thread(known.likeness.add, page.rows)
            if page.last is None:
                return
            known.last = after = page.last
            if page.count < PAGE:
                return


def _asked(session: Session, actor: Actor, review_id: UUID) -> tuple[UUID, tuple[bytes, bytes | None] | None]:
    review = reviews.visible(session, actor, review_id)
    return review.platform_id, neighbourhood.asked_about(session, review)
