"""Io workers and Redis killed while webhooks are sent: every event arrives, and the log knows of every arrival."""

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select
from standardwebhooks import Webhook

from screening import endpoints, events
from screening.ids import Prefix, encode
from screening.tables import Delivery, DeliveryAttempt
from screening.webhook_secrets import SecretBox
from tests.receiver import Reply, Request, receiving
from tests.running_line import Process, RunningLine, running_line, wait_for

EVENTS = 600 if os.environ.get("ASSAY_SOAK") else 120
KEY = "key-of-the-test"


@pytest.fixture(scope="module")
def line(run_folder: Path) -> Iterator[RunningLine]:
    extra = {
        "ASSAY_SECRET_KEYS": KEY,
        "ASSAY_WEBHOOK_ALLOWED_RANGES": "127.0.0.0/8",
        "ASSAY_WEBHOOK_SECONDS": "3",
        "ASSAY_WEBHOOK_LEASE_MARGIN": "2",
    }
    with running_line(run_folder / "deliveries", extra) as running:
        running.start("sweeper")
        yield running


@pytest.mark.parametrize("fault", ["worker killed", "child killed", "worker stopped and killed", "redis killed"])
def test_a_fault_while_sending_loses_nothing(line: RunningLine, rng: random.Random, fault: str) -> None:
    path = f"/{fault.replace(' ', '-')}"

    failed: set[str] = set()

    def sometimes(request: Request) -> Reply:
        """A first attempt may fail; the second comes within seconds, a third would take minutes."""
        fails = request.id not in failed and rng.random() < 0.1
        failed.update({request.id} if fails else ())
        return Reply(500 if fails else 204, delay=0.02)

    with receiving() as receiver:
        with line.sessions.begin() as session:
            made, secret = endpoints.create(session, SecretBox([KEY]), line.platform, receiver.at(path, sometimes))
        worker = line.start("worker", "io")
        with line.sessions.begin() as session:
            ids = [
                encode(Prefix.EVENT, events.emit(session, platform_id=line.platform, type="t", data={"n": n}).id)
                for n in range(EVENTS)
            ]
        line.doorbell.ring_deliveries()
        some = rng.randint(5, EVENTS // 2)
        wait_for(f"{some} have arrived", lambda: len(receiver.seen(path)) >= some)
        worker = break_it(line, worker, fault)

        def states() -> Counter[str]:
            with line.sessions() as session:
                rows = session.scalars(select(Delivery.state).where(Delivery.endpoint_id == made.id))
                return Counter(rows)

        wait_for("every event is delivered", lambda: states() == {"delivered": EVENTS}, 120)
        worker.send(signal.SIGTERM)
        assert worker.wait(60) == 0, worker.log.read_text()[-3000:]
        with line.sessions.begin() as session:
            attempts = list(
                session.scalars(
                    select(DeliveryAttempt)
                    .join(Delivery, Delivery.id == DeliveryAttempt.delivery_id)
                    .where(Delivery.endpoint_id == made.id)
                )
            )
            session.delete(session.merge(made))
    seen = receiver.counts(path)
    assert set(seen) == set(ids)
    assert sum(a.status is not None for a in attempts) <= sum(seen.values()) <= len(attempts)
    assert sum(a.status == 204 for a in attempts) >= EVENTS
    for request in receiver.seen(path):
        Webhook(secret).verify(request.body, request.headers)


def break_it(line: RunningLine, worker: Process, fault: str) -> Process:
    """Do it, and see to it that there is a worker afterwards."""
    match fault:
        case "worker killed":
            worker.send_all(signal.SIGKILL)
            worker.wait()
            return line.start("worker", "io")
        case "child killed":
            for child in worker.children():
                child.kill()
        case "worker stopped and killed":
            worker.send_all(signal.SIGSTOP)
            worker.send_all(signal.SIGKILL)
            worker.wait()
            return line.start("worker", "io")
        case "redis killed":
            line.redis.kill()
            line.redis.start()
    return worker


def test_without_redis_nothing_is_lost_and_its_return_sets_everything_in_motion(line: RunningLine) -> None:
    line.redis.kill()
    with receiving() as receiver:
        with line.sessions.begin() as session:
            made, _ = endpoints.create(session, SecretBox([KEY]), line.platform, receiver.url("/later"))
            for number in range(10):
                events.emit(session, platform_id=line.platform, type="t", data={"n": number})
        assert not line.doorbell.ring_deliveries()
        worker = line.start("worker", "io")
        line.redis.start()
        wait_for("all have arrived", lambda: len(receiver.counts("/later")) == 10, 90)
        worker.send(signal.SIGTERM)
        worker.wait(60)
        with line.sessions.begin() as session:
            delivered = select(func.count()).where(Delivery.endpoint_id == made.id, Delivery.state == "delivered")
            assert session.scalar(delivered) == 10
            session.delete(session.merge(made))
