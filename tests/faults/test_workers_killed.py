"""Workers that are asked to stop, stopped, hung or killed, at work and idle: nothing is lost, nothing happens twice."""

import hashlib
import random
import signal
from pathlib import Path
from uuid import UUID

import psutil
import pytest

from screening.blobs import screening_prefix
from tests.faults.conftest import UPLOADS, FaultyLine
from tests.running_line import picture, wait_for


@pytest.mark.parametrize("how", ["terminated", "killed", "stopped and killed", "child killed"])
def test_a_worker_lost_in_flight(faulty: FaultyLine, rng: random.Random, how: str) -> None:
    worker = faulty.worker()
    ids = faulty.accept(rng)
    faulty.wait_in_flight(ids, rng)
    match how:
        case "terminated":
            worker.send(signal.SIGTERM)
            assert worker.wait() == 0
        case "killed":
            worker.send(signal.SIGKILL)  # the parent alone: its children must not outlive it
            worker.wait()
            wait_for("its children are gone", lambda: not worker.session_alive())
        case "stopped and killed":
            worker.send_all(signal.SIGSTOP)
            worker.send_all(signal.SIGKILL)
            worker.wait()
        case "child killed":
            worker.children()[0].kill()
    faulty.worker()
    faulty.recovers(ids)


@pytest.mark.parametrize("how", ["terminated", "killed", "stopped and killed"])
def test_a_worker_lost_while_idle(faulty: FaultyLine, rng: random.Random, how: str) -> None:
    worker = faulty.worker()
    match how:
        case "terminated":
            worker.stop()
            ids = faulty.accept(rng)
        case "killed":
            worker.send_all(signal.SIGKILL)
            ids = faulty.accept(rng)
        case "stopped and killed":
            worker.send_all(signal.SIGSTOP)  # Redis now hands the first bell to a process that will never answer it
            ids = faulty.accept(rng)
            worker.send_all(signal.SIGKILL)
    worker.wait()
    faulty.worker()
    faulty.recovers(ids)


def test_a_hung_worker_loses_its_rows_and_may_not_write_when_it_wakes(faulty: FaultyLine, rng: random.Random) -> None:
    hung = faulty.worker()
    ids = faulty.accept(rng)
    faulty.wait_in_flight(ids, rng)
    hung.send_all(signal.SIGSTOP)
    faulty.forget_worker()
    faulty.worker()
    faulty.line.wait_ended(ids)
    hung.send_all(signal.SIGCONT)
    hung.stop()
    faulty.line.check(ids)


def test_a_worker_whose_thread_hangs_is_replaced_by_its_own_pool(
    faulty: FaultyLine, rng: random.Random, tmp_path: Path
) -> None:
    """The only worker there is: nobody else takes up what it holds."""
    faulty.no_worker()
    sabotage = {"SABOTEUR_PAUSE_AT": "inferred", "SABOTEUR_FOLDER": str(tmp_path)}
    worker = faulty.line.screen_worker("tests.faults.saboteur", ASSAY_STALL_SECONDS="4", **sabotage)
    ids = faulty.accept(rng)
    faulty.recovers(ids)
    assert any(tmp_path.iterdir())
    worker.stop()


def test_killed_between_the_upload_of_the_mask_and_the_commit(
    faulty: FaultyLine, rng: random.Random, tmp_path: Path
) -> None:
    faulty.no_worker()
    worker = faulty.line.screen_worker(
        module="tests.faults.saboteur", SABOTEUR_PAUSE_AT="uploaded", SABOTEUR_FOLDER=str(tmp_path)
    )
    ids = faulty.accept(rng)
    wait_for("a mask is uploaded", lambda: any(tmp_path.iterdir()))
    worker.send_all(signal.SIGKILL)
    worker.wait()
    caught = [UUID(hex=path.name) for path in tmp_path.iterdir()]
    for screening_id in caught:
        prefix = screening_prefix(faulty.line.platform, screening_id)
        assert f"{prefix}1/mask.png" in set(faulty.line.store.keys(prefix))
    faulty.worker()
    faulty.recovers(ids)


def test_an_image_that_kills_whoever_touches_it_fails_alone(faulty: FaultyLine, rng: random.Random) -> None:
    faulty.no_worker()
    poison = picture(rng)
    worker = faulty.line.screen_worker(
        module="tests.faults.saboteur", SABOTEUR_POISON=hashlib.sha256(poison).hexdigest(), ASSAY_MAX_STRIKES="1"
    )
    contents = [picture(rng) for _ in range(UPLOADS)]
    contents.insert(rng.randrange(UPLOADS), poison)
    ids = faulty.line.accept(contents)
    faulty.recovers(ids, failed=[ids[contents.index(poison)]])
    assert worker.alive
    worker.stop()


def test_decoders_killed_at_random_cost_nothing_but_time(faulty: FaultyLine, rng: random.Random) -> None:
    worker = faulty.worker()
    ids = faulty.accept(rng)
    for _ in range(3):
        faulty.wait_in_flight(ids, rng)
        for child in worker.children():
            for decoder in child.children():
                try:
                    decoder.kill()
                except psutil.NoSuchProcess:
                    continue
    faulty.recovers(ids)
