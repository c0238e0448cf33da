"""Five days of deliveries while workers and Redis are killed: what arrives, under which signature, and what is logged.

The clock is the database's own setting, which a worker's next connection reads, so real processes live through days.
"""

import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import cycle, pairwise
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func, make_url, select, text
from standardwebhooks import Webhook

from screening import endpoints, events
from screening.database import sync_engine
from screening.delivery_schedule import JITTER, WAITS
from screening.embedded.process import free_port
from screening.ids import Prefix, encode
from screening.tables import Delivery, DeliveryAttempt, Endpoint
from screening.webhook_secrets import SecretBox
from tests.integration.test_delivery_guarantees import NEXT_DUE
from tests.receiver import Behaviour, Receiver, Reply, Request, receiving
from tests.running_line import Process, RunningLine, running_line, wait_for

KEY = "key-of-the-test"
SOAK = bool(os.environ.get("ASSAY_SOAK"))
EVENTS = 40 if SOAK else 5  # at the beginning, and again on the third day
# Deliveries may be late, never early: a step of the clock passes over dues that lie close together.
EARLY, STEP = timedelta(minutes=2), timedelta(hours=3)
STRIKES = 24 if SOAK else 4
FAULTS = ("worker killed", "redis killed", "worker killed", "child killed")


@pytest.fixture
def line(run_folder: Path, tmp_path: Path) -> Iterator[RunningLine]:
    extra = {
        "ASSAY_SECRET_KEYS": KEY, "ASSAY_WEBHOOK_ALLOWED_RANGES": "127.0.0.0/8", "ASSAY_WEBHOOK_SECONDS": "3",
        "ASSAY_WEBHOOK_LEASE_MARGIN": "2",
    }  # fmt: skip
    with running_line(run_folder / "five-days", extra) as running:
        yield running


class Days:
    """A line with one worker, a clock that the test moves, and a receiver that a fault may strike at any request."""

    def __init__(self, line: RunningLine, receiver: Receiver, rng: random.Random) -> None:
        self.line, self.receiver, self.rng = line, receiver, rng
        self.offset = timedelta(0)
        self._rung = 0.0
        self.secrets: dict[str, str] = {}
        self.paths: dict[UUID, str] = {}
        self.struck: Counter[str] = Counter()
        self._faults = cycle(FAULTS)
        self._admin = sync_engine(line.database_url, pool_size=1).execution_options(isolation_level="AUTOCOMMIT")
        self.worker = line.start("worker", "io")

    def listen(self, path: str, behaviour: Behaviour | None) -> None:
        """An endpoint at a path; without a behaviour nobody listens there."""
        url = f"http://127.0.0.1:{free_port()}{path}" if behaviour is None else self.receiver.at(path, behaviour)
        with self.line.sessions.begin() as session:
            row, self.secrets[path] = endpoints.create(session, SecretBox([KEY]), self.line.platform, url)
        self.paths[row.id] = path

    def emit(self) -> None:
        with self.line.sessions.begin() as session:
            session.execute(text("SELECT set_config('assay.clock_offset', :by, true)"), {"by": self._setting})
            for _ in range(EVENTS):
                data = {"chance": self.rng.random()}
                events.emit(session, platform_id=self.line.platform, type="screening.completed", data=data)

    @property
    def _setting(self) -> str:
        return f"{self.offset.total_seconds():.6f}s"

    def next_due(self) -> timedelta | None:
        with self.line.sessions() as session:
            seconds = session.scalar(text(NEXT_DUE))
        return None if seconds is None else timedelta(seconds=float(seconds))

    def settle(self, *, fault: bool) -> None:
        """Everything due at the clock's time is sent, whatever is killed meanwhile."""
        name = make_url(self.line.database_url).database
        with self._admin.connect() as connection:
            connection.execute(text(f"ALTER DATABASE \"{name}\" SET assay.clock_offset = '{self._setting}'"))
        seen = len(self.receiver.requests)
        self.line.doorbell.ring_deliveries()
        if fault:
            wait_for("something is under way", lambda: len(self.receiver.requests) > seen or self._settled(), 60)
            self._strike(next(self._faults))
        wait_for("nothing is due", self._settled, 120)

    def _settled(self) -> bool:
        """Nothing is due or under way: the clock must not pass a lease whose holder lives."""
        due = self.next_due()
        with self.line.sessions() as session:
            sending = session.scalar(select(func.count()).where(Delivery.state == "sending"))
        if not sending and (due is None or due > self.offset):
            return True
        if time.monotonic() > self._rung + 1:  # as the sweeper does
            self._rung = time.monotonic()
            self.line.doorbell.ring_deliveries()
        return False

    def _strike(self, fault: str) -> None:
        self.struck[fault] += 1
        if fault == "redis killed":
            self.line.redis.kill()
            self.line.redis.start()
        elif fault == "child killed":
            for child in self.worker.children():
                child.kill()
        else:
            self.worker.send_all(signal.SIGKILL)
            self.worker.wait()
            self.worker = self.line.start("worker", "io")

    def live(self) -> None:
        """Until nothing is due any more. Faults strike where there is something to strike."""
        for day in (0, 2, 6):
            self.offset = max(self.offset, timedelta(days=day))
            if day < 6:
                self.emit()
                self.settle(fault=True)
            while (due := self.next_due()) is not None and (day == 6 or due < timedelta(days=day + 2)):
                early = self.offset < timedelta(days=day, hours=1)
                self.offset = max(self.offset, due) + (EARLY if early else STEP)
                self.settle(fault=self.struck.total() < STRIKES and self.rng.random() < 0.4)

    def end(self) -> Process:
        self.worker.send(signal.SIGTERM)
        self.worker.wait(60)
        self._admin.dispose()
        return self.worker


@pytest.mark.timeout(1800 if SOAK else 300)
def test_every_event_arrives_though_workers_and_redis_are_killed_over_five_days(
    line: RunningLine, rng: random.Random
) -> None:
    with receiving() as receiver:
        days = Days(line, receiver, rng)
        tries: Counter[tuple[str, str]] = Counter()

        def refusing(times: int, otherwise: Reply) -> Callable[[Request], Reply]:
            def behave(request: Request) -> Reply:
                tries[request.path, request.id] += 1
                return otherwise if tries[request.path, request.id] <= times else Reply(delay=0.02)

            return behave

        days.listen("/up", lambda _: Reply(delay=0.02))
        days.listen("/failing", refusing(4, Reply(500)))
        days.listen("/busy", refusing(1, Reply(429, {"Retry-After": "3600"})))
        days.listen("/garbage", refusing(1, Reply(raw=b"\x00 not http")))
        days.listen("/late", lambda _: Reply(503 if days.offset < timedelta(days=3) else 204, delay=0.02))
        days.listen("/down", None)
        days.live()
        assert days.end().log.read_text().count("delivery.defect") == 0
        print(f"struck: {dict(days.struck)}")
        assert days.struck["worker killed"] >= 2
        assert days.struck["redis killed"] >= 1
        check(days)


def check(days: Days) -> None:
    """Hold every delivery against the receiver, the log, the schedule and the signatures."""
    with days.line.sessions() as session:
        rows = list(session.scalars(select(Delivery)))
        disabled = {days.paths[e.id]: e.disabled_reason for e in session.scalars(select(Endpoint)) if not e.enabled}
        log: dict[UUID, list[DeliveryAttempt]] = defaultdict(list)
        for attempt in session.scalars(select(DeliveryAttempt).order_by(DeliveryAttempt.attempt)):
            log[attempt.delivery_id].append(attempt)
    assert disabled == {"/down": "failing"}
    for row in rows:
        path, attempts = days.paths[row.endpoint_id], log[row.id]
        seen = days.receiver.counts(path)[encode(Prefix.EVENT, row.event_id)]
        assert sum(a.status is not None for a in attempts) <= seen <= (0 if path == "/down" else len(attempts)), path
        assert [a.attempt for a in attempts] == list(range(1, row.attempt + 1))
        assert all(a.status is not None or a.error is not None for a in attempts)
        if path != "/down":
            assert row.state == "delivered", (path, [(a.status, a.error) for a in attempts])
            assert seen >= 1
        failures = 0
        for earlier, later in pairwise(attempts):
            if earlier.error != "interrupted":  # a killed sender costs no place in the schedule
                assert later.started_at - earlier.started_at >= WAITS[min(failures, len(WAITS) - 1)] * (1 - JITTER)
                failures += 1
    expected = {encode(Prefix.EVENT, row.event_id) for row in rows if days.paths[row.endpoint_id] == "/late"}
    assert len(expected) >= 2 * EVENTS
    for path in ("/up", "/failing", "/busy", "/garbage", "/late"):
        assert set(days.receiver.counts(path)) >= expected
    for request in days.receiver.requests:
        Webhook(days.secrets[request.path]).verify(request.body, request.headers)
