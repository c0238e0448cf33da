"""Redis, PostgreSQL and the blob store that restart, crash or are away: intake goes on, and everything ends once."""

import random
import signal

import pytest

from tests.faults.conftest import UPLOADS, FaultyLine
from tests.faults.test_workers_killed import accept, wait_in_flight
from tests.running_line import picture, wait_for


def test_redis_is_killed_and_comes_back(faulty: FaultyLine, rng: random.Random) -> None:
    faulty.worker()
    ids = accept(faulty, rng, UPLOADS // 2)
    wait_in_flight(faulty, ids, rng)
    faulty.line.redis.kill()
    ids += accept(faulty, rng, UPLOADS // 2)
    faulty.line.redis.start()
    faulty.line.wait_ended(ids)
    faulty.line.check(ids)


def test_redis_forgets_everything(faulty: FaultyLine, rng: random.Random) -> None:
    faulty.worker()
    ids = accept(faulty, rng)
    wait_in_flight(faulty, ids, rng)
    faulty.line.flush_redis()
    more = accept(faulty, rng, UPLOADS // 2)
    faulty.line.flush_redis()
    faulty.line.wait_ended(ids + more)
    faulty.line.check(ids + more)


def test_redis_is_away_for_the_whole_upload(faulty: FaultyLine, rng: random.Random) -> None:
    faulty.worker()
    faulty.line.redis.kill()
    ids = accept(faulty, rng)
    faulty.line.redis.start()
    faulty.line.wait_ended(ids)
    faulty.line.check(ids)


def test_postgresql_restarts(faulty: FaultyLine, rng: random.Random) -> None:
    faulty.worker()
    ids = accept(faulty, rng)
    wait_in_flight(faulty, ids, rng)
    faulty.line.postgres.stop()
    faulty.line.postgres.start()
    faulty.line.wait_ended(ids)
    faulty.line.check(ids)


def test_postgresql_crashes(faulty: FaultyLine, rng: random.Random) -> None:
    faulty.worker()
    ids = accept(faulty, rng)
    wait_in_flight(faulty, ids, rng)
    faulty.line.postgres.kill()
    faulty.line.postgres.start()
    faulty.line.wait_ended(ids)
    faulty.line.check(ids)


def test_the_blob_folder_cannot_be_used_for_a_while(faulty: FaultyLine, rng: random.Random) -> None:
    faulty.worker()
    intakes = [faulty.line.put(picture(rng)) for _ in range(UPLOADS)]
    with faulty.line.blobs_away():
        ids = [faulty.line.enqueue(intake) for intake in intakes]
        wait_for("something is given back", lambda: faulty.line.released(ids, "blob_store") > 0)
    faulty.line.wait_ended(ids)
    faulty.line.check(ids)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_sweeper_is_lost_and_another_takes_over(faulty: FaultyLine, rng: random.Random, how: signal.Signals) -> None:
    faulty.worker()
    lost, standby = faulty.sweeper, faulty.line.start("sweeper")
    lost.send(how)
    faulty.sweeper = standby
    ids = faulty.line.accept([picture(rng) for _ in range(UPLOADS)], ring=False)
    faulty.line.wait_ended(ids)
    faulty.line.check(ids)
    assert standby.said("sweeper.leads")
    lost.send(signal.SIGKILL)
    lost.wait()


def test_a_sweeper_ends_when_asked(faulty: FaultyLine) -> None:
    wait_for("it leads", lambda: faulty.sweeper.said("sweeper.leads"))
    faulty.sweeper.stop()
    faulty.sweeper = faulty.line.start("sweeper")
