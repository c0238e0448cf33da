"""However slow one platform is to answer, some sender claims: drains that are over end one after the other."""

import asyncio
import threading
import time

import pytest
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from screening import platforms
from screening.settings import Settings
from screening.tables import Platform
from tests.integration.test_deliveries import KEYS, happen, listen, log
from tests.receiver import Receiver, Reply
from tests.running_line import wait_for
from worker.deliveries import sender
from worker.deliveries.sender import Drained

Sessions = sessionmaker[Session]
SLOW, QUICK = 6, 10
PLACES = 8  # of one drain: the first is full, the second has room


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(
        database_url=database_url, secret_keys=SecretStr(KEYS), webhook_allowed_ranges="127.0.0.0/8",
        webhook_seconds=30.0, drain_seconds=0.5, webhook_concurrency=PLACES,
    )  # fmt: skip


def test_what_becomes_due_while_drains_wait_for_slow_receivers_is_sent_meanwhile(
    sessions: Sessions, platform: Platform, receiver: Receiver, settings: Settings
) -> None:
    """The slow receivers answer only once the quick one, whose events come when every drain is over, has heard all."""

    def all_heard() -> bool:
        return len(receiver.seen("/quick")) == QUICK

    slow = [listen(sessions, platform, receiver.at(f"/slow{n}", Reply(hold=all_heard)))[0] for n in range(SLOW)]
    with sessions.begin() as session:
        other = platforms.create(session, "other")
    listen(sessions, other, receiver.at("/quick", Reply()))
    happen(sessions, platform, 2)
    drained: list[Drained] = []

    def start_and_outlast(requests: int) -> threading.Thread:
        """A drain in a thread, once it has sent so much and its time is over."""
        thread = threading.Thread(target=lambda: drained.append(asyncio.run(sender.drain(settings))))
        begun = time.monotonic()
        thread.start()
        wait_for("the slow ones are under way", lambda: len(receiver.requests) == requests, 20)
        wait_for("the drain is over", lambda: time.monotonic() > begun + 1, 20)
        return thread

    first = start_and_outlast(PLACES)
    second = start_and_outlast(2 * SLOW)
    happen(sessions, other, QUICK)
    for thread in (first, second):
        thread.join(60)
    assert sum(d.delivered for d in drained) == 2 * SLOW + QUICK
    assert {attempt.error for endpoint_id in slow for attempt in log(sessions, endpoint_id)} == {None}
