"""Redis, PostgreSQL and the blob store that restart, crash or are away: intake goes on, and everything ends once."""

import random
import signal

import pytest

from screening.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.faults.conftest import UPLOADS, FaultyLine
from tests.running_line import picture, wait_for


@pytest.mark.parametrize("how", ["restarts", "crashes"])
@pytest.mark.parametrize("which", ["redis", "postgres"])
def test_a_server_goes_away_in_flight(faulty: FaultyLine, rng: random.Random, which: str, how: str) -> None:
    faulty.worker()
    ids = faulty.accept(rng)
    faulty.wait_in_flight(ids, rng)
    server: EmbeddedRedis | EmbeddedPostgres = getattr(faulty.line, which)
    if how == "restarts":
        server.stop()
    else:
        server.kill()
    if which == "redis":  # intake goes on
        ids += faulty.accept(rng, UPLOADS // 2)
    server.start()
    faulty.recovers(ids)


def test_a_worker_that_could_not_acknowledge_a_bell_hears_the_next(faulty: FaultyLine, rng: random.Random) -> None:
    """Celery forgives the lost acknowledgement and forgets to give back the prefetch that it held."""
    worker = faulty.worker()
    said_so_far = len(worker.log.read_text())
    ids = faulty.accept(rng)
    faulty.wait_in_flight(ids, rng)
    faulty.line.redis.stop()
    wait_for("a drain ends without Redis", lambda: worker.said("Couldn't ack", since=said_so_far))
    faulty.line.redis.start()
    ids += faulty.accept(rng, UPLOADS // 2)
    faulty.recovers(ids)
    assert worker.alive


def test_redis_forgets_everything(faulty: FaultyLine, rng: random.Random) -> None:
    faulty.worker()
    ids = faulty.accept(rng)
    faulty.wait_in_flight(ids, rng)
    faulty.line.flush_redis()
    ids += faulty.accept(rng, UPLOADS // 2)
    faulty.line.flush_redis()
    faulty.recovers(ids)


def test_redis_is_away_for_the_whole_upload(faulty: FaultyLine, rng: random.Random) -> None:
    faulty.worker()
    faulty.line.redis.kill()
    ids = faulty.accept(rng)
    faulty.line.redis.start()
    faulty.recovers(ids)


def test_the_blob_folder_cannot_be_used_for_a_while(faulty: FaultyLine, rng: random.Random) -> None:
    faulty.worker()
    intakes = [faulty.line.put(picture(rng)) for _ in range(UPLOADS)]
    with faulty.line.blobs_away():
        ids = [faulty.line.enqueue(intake) for intake in intakes]
        wait_for("something is given back", lambda: faulty.line.released(ids, "blob_store") > 0)
    faulty.recovers(ids)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_sweeper_is_lost_and_another_takes_over(faulty: FaultyLine, rng: random.Random, how: signal.Signals) -> None:
    faulty.worker()
    lost = faulty.sweeper
    wait_for("the first leads", lambda: lost.said("sweeper.leads"))
    faulty.sweeper = standby = faulty.line.start("sweeper")
    faulty.wait_unrung()
    lost.send(how)
    ids = faulty.accept(rng, ring=False)
    wait_for("the other takes over", lambda: standby.said("sweeper.leads"))
    faulty.recovers(ids)
    lost.send(signal.SIGKILL)
    lost.wait()


def test_a_sweeper_ends_when_asked(faulty: FaultyLine) -> None:
    wait_for("it leads", lambda: faulty.sweeper.said("sweeper.leads"))
    faulty.sweeper.stop()
    faulty.sweeper = faulty.line.start("sweeper")
