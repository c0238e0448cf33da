"""Six days of deliveries to receivers of every kind, in a minute: what arrives and when, and what the log says."""

import asyncio
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker
from standardwebhooks import Webhook

from screening import deliveries, endpoints, events
from screening.database import sync_engine
from screening.delivery_schedule import GIVE_UP, JITTER, WAITS
from screening.embedded.process import free_port
from screening.ids import Prefix, encode
from screening.settings import Settings
from screening.tables import Delivery, DeliveryAttempt, Endpoint, Platform
from screening.webhook_secrets import SecretBox
from tests import clock
from tests.receiver import Receiver, Reply, Request, receiving
from worker.deliveries import sender

Sessions = sessionmaker[Session]
SOAK = bool(os.environ.get("ASSAY_SOAK"))
EVENTS_AT_ONCE = 40 if SOAK else 2
DAYS = 6

# A step of the clock passes over dues that lie close together; deliveries may be late, never early.
EARLY, STEP = timedelta(seconds=20), timedelta(minutes=90)

NEXT_DUE = """
SELECT extract(epoch FROM min(greatest(d.due_at, coalesce(e.throttled_until, d.due_at))) - now())
  FROM deliveries d JOIN endpoints e ON e.id = d.endpoint_id
 WHERE d.state IN ('pending', 'sending') AND e.enabled
   AND (NOT e.ordered OR d.id = (SELECT id FROM deliveries h WHERE h.endpoint_id = e.id
                                    AND h.state IN ('pending', 'sending') ORDER BY created_at, id LIMIT 1))
"""


@dataclass
class World:
    """A platform with an endpoint of every kind, and a clock that the test moves."""

    sessions: Sessions
    settings: Settings
    platform: Platform
    receiver: Receiver
    rng: random.Random
    offset: timedelta = timedelta(0)
    secrets: dict[str, str] = field(default_factory=dict)
    ids: dict[str, UUID] = field(default_factory=dict)
    first: set[str] = field(default_factory=set)  # the first day's messages
    verified: int = 0

    def listen(self, path: str, url: str, *, ordered: bool = False) -> None:
        with self.sessions.begin() as session:
            box = SecretBox(self.settings.keys)
            row, secret = endpoints.create(session, box, self.platform.id, url, ordered=ordered)
        self.secrets[path], self.ids[path] = secret, row.id

    def emit(self, count: int) -> None:
        engine = sync_engine(clock.later(self.settings.database_url, self.offset))
        with Session(engine) as session, session.begin():
            for _ in range(count):
                data = {"chance": self.rng.random()}
                made = events.emit(session, platform_id=self.platform.id, type="screening.completed", data=data)
                if not self.offset:
                    self.first.add(encode(Prefix.EVENT, made.id))
        engine.dispose()

    def send(self) -> None:
        """Whatever is due at the clock's time; there is something, or the test would never end."""
        url = clock.later(self.settings.database_url, self.offset)
        drained = asyncio.run(sender.drain(self.settings.model_copy(update={"database_url": url})))
        assert drained.attempts, "a delivery that is due was not sent"
        for request in self.receiver.requests[self.verified :]:
            Webhook(self.secrets[request.path]).verify(request.body, request.headers)
        self.verified = len(self.receiver.requests)

    def next_due(self) -> timedelta | None:
        with self.sessions() as session:
            seconds = session.scalar(text(NEXT_DUE))
        return None if seconds is None else timedelta(seconds=float(seconds))

    def live(self) -> None:
        """Until nothing is due any more: events each day, and a sender that runs whenever something is due."""
        for day in range(DAYS):
            self.offset = max(self.offset, timedelta(days=day))
            self.emit(EVENTS_AT_ONCE)
            self.send()
            while (due := self.next_due()) is not None and (day == DAYS - 1 or due < timedelta(days=day + 1)):
                small = self.offset < timedelta(days=day, hours=1)
                self.offset = max(self.offset, due) + (EARLY if small else STEP)
                self.send()


@pytest.fixture
def world(sessions: Sessions, database_url: str, platform: Platform, rng: random.Random) -> Iterator[World]:
    settings = Settings(
        database_url=database_url, secret_keys=SecretStr("key"), webhook_allowed_ranges="127.0.0.0/8",
        webhook_seconds=1.5, drain_seconds=30,
    )  # fmt: skip
    with receiving() as receiver:
        yield World(sessions, settings, platform, receiver, rng)


@pytest.mark.timeout(1800 if SOAK else 300)
def test_every_event_arrives_at_every_live_endpoint_on_the_contracts_schedule(world: World) -> None:
    tries: dict[tuple[str, str], int] = Counter()

    def flapping(request: Request) -> Reply:
        tries[request.path, request.id] += 1
        return Reply(204 if tries[request.path, request.id] > 5 else world.rng.choice((204, 500, 503)))

    def after(times: int, otherwise: Reply) -> object:
        def behave(request: Request) -> Reply:
            tries[request.path, request.id] += 1
            return otherwise if tries[request.path, request.id] <= times else Reply()

        return behave

    kinds = {
        "/up": Reply(),
        "/slow": Reply(delay=0.2),
        "/endless": Reply(200, endless=True),
        "/flapping": flapping,
        "/ordered": flapping,
        "/late": lambda _: Reply(500 if world.offset < timedelta(days=3) else 200),
        "/busy": after(2, Reply(429, {"Retry-After": "3600"})),
        "/garbage": after(1, Reply(raw=b"\x00\x01 not http")),
        "/hanging": after(1, Reply(delay=3)),
        "/picky": lambda request: Reply(422 if request.id in world.first else 200),
        "/redirect": Reply(302, {"Location": world.receiver.url("/up")}),
        "/gone": Reply(410),
    }
    for path, behaviour in kinds.items():
        world.listen(path, world.receiver.at(path, behaviour), ordered=path == "/ordered")  # type: ignore[arg-type]
    world.listen("/down", f"http://127.0.0.1:{free_port()}/down")
    world.live()

    check_each(world, live=set(kinds) - {"/picky", "/redirect", "/gone"}, silent={"/down"})
    check_disabled(world)
    check_dead_letters(world)


def check_each(world: World, live: set[str], silent: set[str]) -> None:
    """Hold every delivery against the schedule, the log and the receiver."""
    with world.sessions() as session:
        rows = list(session.scalars(select(Delivery)))
        log: dict[UUID, list[DeliveryAttempt]] = defaultdict(list)
        for attempt in session.scalars(select(DeliveryAttempt).order_by(DeliveryAttempt.attempt)):
            log[attempt.delivery_id].append(attempt)
    paths = {endpoint_id: path for path, endpoint_id in world.ids.items()}
    for row in rows:
        path, attempts = paths[row.endpoint_id], log[row.id]
        seen = world.receiver.counts(path)[encode(Prefix.EVENT, row.event_id)]
        # An attempt that timed out may have done so before the receiver had read it; every other one it knows of.
        answered = sum(a.status is not None or a.error not in ("timeout", "connect") for a in attempts)
        assert answered <= seen <= (0 if path in silent else len(attempts)), path
        assert [a.attempt for a in attempts] == list(range(1, row.attempt + 1))
        check_times(row.created_at, [a.started_at for a in attempts])
        accepted = [a.attempt for a in attempts if a.status is not None and 200 <= a.status < 300]
        assert accepted == ([row.attempt] if row.state == "delivered" else []), path
        if path in live:
            assert row.state == "delivered", (path, row.state, [(a.status, a.error) for a in attempts])
        if row.state == "dead":
            assert attempts[-1].started_at - attempts[0].started_at > GIVE_UP - WAITS[-1] * (1 + JITTER)
    assert len({r.event_id for r in rows if paths[r.endpoint_id] == "/up"}) >= DAYS * EVENTS_AT_ONCE


def check_dead_letters(world: World) -> None:
    """What one endpoint refused for five days, while it took everything else, is given up, counted and replayable."""
    paths = {endpoint_id: path for path, endpoint_id in world.ids.items()}
    with world.sessions.begin() as session:
        dead = list(session.scalars(select(Delivery).where(Delivery.state == "dead")))
        assert {paths[row.endpoint_id] for row in dead} <= {"/picky", "/redirect", "/down"}
        refused = [row for row in dead if paths[row.endpoint_id] == "/picky"]
        assert {encode(Prefix.EVENT, row.event_id) for row in refused} == world.first
        assert {row.failures for row in refused} <= {10, 11, 12}
        assert deliveries.dead_letters(session) == len(dead)
        for row in refused:
            deliveries.replay(session, row)
        assert deliveries.dead_letters(session) == len(dead) - len(refused)
    world.receiver.at("/picky", Reply())
    before = world.receiver.counts("/picky")
    world.send()
    assert world.receiver.counts("/picky") - before == dict.fromkeys(world.first, 1)


def check_times(created_at: datetime, starts: list[datetime]) -> None:
    """No attempt before its time, none after five days."""
    if not starts:
        return
    assert starts[0] >= created_at
    assert starts[-1] - starts[0] <= GIVE_UP + STEP
    for number, (earlier, later) in enumerate(pairwise(starts)):
        assert later - earlier >= WAITS[min(number, len(WAITS) - 1)] * (1 - JITTER)


def check_disabled(world: World) -> None:
    with world.sessions() as session:
        rows = {path: session.get_one(Endpoint, endpoint_id) for path, endpoint_id in world.ids.items()}
    reasons = {path: row.disabled_reason for path, row in rows.items() if not row.enabled}
    assert reasons == {"/gone": "gone", "/redirect": "failing", "/down": "failing"}
    assert len(world.receiver.seen("/gone")) <= world.settings.webhook_per_endpoint
    told = Counter(deliveries.DISABLED in r.body.decode() for r in world.receiver.seen("/up"))
    assert told[True] == 3
