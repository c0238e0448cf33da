"""How do deliveries leave? One event loop claims as many as it has room for, sends them at once, records in batches.

Everything that has ended since the last look is recorded in one transaction, which also claims what may follow, so a
fast receiver costs few round trips to the database and a slow one holds nothing but its own places.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TypeVar

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session

from screening import deliveries, webhook_body
from screening.addresses import parse_ranges
from screening.database import async_engine
from screening.deliveries import Attempted, Claim, Limits
from screening.delivery_schedule import KEPT_RESPONSE, failed, judge
from screening.errors import ConfigurationError
from screening.ids import Prefix, encode
from screening.outbound import Answer, OutboundClient, OutboundError
from screening.settings import Settings
from screening.webhook_secrets import SecretBox
from worker import metrics
from worker.deliveries import signing
from worker.deliveries.turns import Turn
from worker.service import VERSION

logger = structlog.get_logger(__name__)

LOOK_AGAIN = 0.25  # seconds until a claim is tried again while attempts are under way
RESCUED_AT_ONCE = 1_000
TURNS = 8  # drains that may end one after the other, each within one attempt's time, before the others end anyway
T = TypeVar("T")
USER_AGENT = f"Assay/{VERSION} (webhooks)"


@dataclass(frozen=True, slots=True)
class Drained:
    """What one drain did."""

    attempts: int
    delivered: int


class Sender:
    """Sends what is due until nothing is, time is up, or it is told to stop. One a drain."""

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        client: OutboundClient,
        settings: Settings,
        *,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._sessions = sessions
        self._client = client
        self._settings = settings
        self._stopping = stopping
        self._limits = Limits.of(settings)
        self._lease = timedelta(seconds=settings.webhook_seconds + settings.webhook_lease_margin)
        self._rng = random.Random()  # noqa: S311 - jitter
        self._open = lru_cache(maxsize=1_000)(SecretBox(settings.keys).open)  # a few secrets, over and over
        self._under_way: dict[asyncio.Task[Attempted], Claim] = {}
        self._ended: list[Attempted] = []
        self._some_ended = asyncio.Event()

    async def drain(self, seconds: float) -> Drained:
        """Claim and send for `seconds` and until it is this drain's turn to end, then finish what is under way.

        Raises the database's errors.
        """
        ends = time.monotonic() + seconds
        turn = Turn(self._sessions, ends, ends + TURNS * self._settings.webhook_seconds)
        try:
            await self._transaction(_rescue)
            return await self._drain(turn)
        finally:
            await turn.give_up()

    async def _drain(self, turn: Turn) -> Drained:
        attempts = delivered = 0
        while True:
            ended, self._ended = self._ended, []
            over = self._stopping() or await turn.has_come()
            room = 0 if over else self._settings.webhook_concurrency - len(self._under_way)
            for claim in await self._exchange(ended, room):
                task = asyncio.create_task(self._send(claim))
                self._under_way[task] = claim
                task.add_done_callback(self._end)
            attempts += len(ended)
            delivered += sum(a.outcome.delivered for a in ended)
            if not self._under_way and not self._ended:
                return Drained(attempts, delivered)
            await self._until_some_ended()

    async def _until_some_ended(self) -> None:
        """A moment at most: something else may have become due."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN):
                await self._some_ended.wait()
        self._some_ended.clear()

    def _end(self, task: asyncio.Task[Attempted]) -> None:
        """Note what came of an attempt. A defect of ours that one answer brings out is that delivery's failure.

        Raised here, it would end everybody's attempts, and its row would come back to do so again, for ever.
        """
        claim = self._under_way.pop(task)
        if task.cancelled():
            return  # with the whole drain; the lease brings the row back
        error = task.exception()
        if error is None:
            attempted = task.result()
        else:
            logger.error("delivery.defect", delivery=encode(Prefix.DELIVERY, claim.delivery_id), exc_info=error)
            attempted = Attempted(claim, failed("internal", claim.failures, self._rng), 0)
        self._ended.append(attempted)
        self._some_ended.set()

    async def _exchange(self, ended: Sequence[Attempted], room: int) -> list[Claim]:
        """Record what ended and claim what may follow, in one transaction."""
        if not ended and not room:
            return []
        until = time.monotonic() + self._settings.webhook_lease_margin * 2 / 3
        while True:
            try:
                return await self._transaction(_exchange, ended, room, self._limits, self._lease)
            except (OperationalError, InterfaceError):
                if time.monotonic() > until:
                    raise  # the leases run out, and every one of these is sent again
                await asyncio.sleep(0.5)

    async def _transaction(self, work: Callable[..., T], *args: object) -> T:
        async with self._sessions.begin() as session:
            return await session.run_sync(work, *args)

    async def _send(self, claim: Claim) -> Attempted:
        """One attempt; whatever comes of it is an outcome."""
        start = time.perf_counter()
        try:
            secrets = [self._open(sealed) for sealed in (claim.secret, claim.previous_secret) if sealed is not None]
        except ConfigurationError:
            logger.exception("delivery.unsigned", delivery=encode(Prefix.DELIVERY, claim.delivery_id))
            outcome = failed("unsigned", claim.failures, self._rng)  # the operator has five days to mend the keys
        else:
            outcome = judge(await self._post(claim, secrets), claim.failures, self._rng)
        seconds = time.perf_counter() - start
        metrics.ATTEMPTS.labels(outcome.name).inc()
        metrics.ATTEMPT.observe(seconds)
        return Attempted(claim, outcome, round(seconds * 1000))

    async def _post(self, claim: Claim, secrets: Sequence[str]) -> Answer | OutboundError:
        body = webhook_body.encode(claim.type, claim.created_at, claim.data)
        headers = signing.headers(secrets, encode(Prefix.EVENT, claim.event_id), datetime.now(UTC), body)
        headers |= {"Content-Type": "application/json", "User-Agent": USER_AGENT}
        if claim.traceparent is not None:
            headers["traceparent"] = claim.traceparent
        try:
            return await self._client.request(
                "POST",
                claim.url,
                seconds=self._settings.webhook_seconds,
                headers=headers,
                content=body,
            )
        except OutboundError as error:
            return error


def _rescue(session: Session) -> int:
    return deliveries.rescue(session, limit=RESCUED_AT_ONCE)


def _exchange(session: Session, ended: Sequence[Attempted], room: int, limits: Limits, lease: timedelta) -> list[Claim]:
    deliveries.record(session, ended)
    return deliveries.claim(session, limit=room, limits=limits, lease=lease) if room else []


async def drain(settings: Settings, stopping: Callable[[], bool] = lambda: False) -> Drained:
    """One drain with connections of its own."""
    engine = async_engine(settings.database_url, pool_size=2)
    ranges = parse_ranges(settings.allowed_ranges) + parse_ranges(settings.webhook_allowed_ranges)
    try:
        async with OutboundClient(ranges, max_bytes=KEPT_RESPONSE) as client:
            sender = Sender(async_sessionmaker(engine), client, settings, stopping=stopping)
            return await sender.drain(settings.drain_seconds)
    finally:
        await engine.dispose()
