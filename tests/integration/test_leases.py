"""The heartbeat: it renews while work moves, stops when nothing moves, and knows what was taken away."""

import threading
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from screening import jobs
from screening.jobs import Claim
from screening.tables import Platform, Screening
from tests.findings import intake
from tests.running_line import wait_for
from worker.leases import Leases
from worker.ledger import Ledger

Sessions = sessionmaker[Session]


def claimed(sessions: Sessions, platform: Platform, count: int = 1) -> list[Claim]:
    with sessions.begin() as session:
        for _ in range(count):
            jobs.enqueue(session, intake(platform.id))
    with sessions.begin() as session:
        return jobs.claim(session, limit=count, worker="w", lease=timedelta(seconds=0.6))


def expired(sessions: Sessions) -> int:
    with sessions.begin() as session:
        return jobs.rescue(session, limit=10, max_strikes=3)


def renewed(sessions: Sessions, claim: Claim) -> bool:
    statement = text("SELECT due_at > started_at + interval '1 second' FROM screenings WHERE id = :id")
    with sessions() as session:
        return bool(session.scalar(statement, {"id": claim.screening_id}))


def test_a_lease_is_renewed_while_there_is_progress(sessions: Sessions, platform: Platform) -> None:
    [claim] = claimed(sessions, platform)
    with Leases(Ledger(sessions, 1), lease=0.6, stall=60) as leases:
        leases.hold([claim])
        wait_for("the lease outlives its first term", lambda: renewed(sessions, claim))
    assert not leases.lost(claim)


def test_without_progress_the_lease_runs_out(sessions: Sessions, platform: Platform) -> None:
    [claim] = claimed(sessions, platform)
    gave_up = threading.Event()
    with Leases(Ledger(sessions, 1), lease=0.6, stall=0.1, give_up=gave_up.set) as leases:
        leases.hold([claim])
        wait_for("others may take the row", lambda: expired(sessions) == 1)
        assert leases.stalled
        assert gave_up.wait(20), "a worker that lost its rows to a hang should end"


def test_a_worker_that_moves_again_in_time_does_not_give_up(sessions: Sessions, platform: Platform) -> None:
    [claim] = claimed(sessions, platform)
    gave_up = threading.Event()
    with Leases(Ledger(sessions, 1), lease=0.6, stall=3600, give_up=gave_up.set) as leases:
        leases.hold([claim])
        wait_for("the lease outlives its first term", lambda: renewed(sessions, claim))
    assert not gave_up.is_set()


def test_a_row_that_was_erased_is_known_as_lost_and_one_that_ended_is_not(
    sessions: Sessions, platform: Platform
) -> None:
    erased, ended = claimed(sessions, platform, 2)
    with Leases(Ledger(sessions, 1), lease=0.6, stall=60) as leases:
        leases.hold([erased, ended])
        leases.drop(ended)
        with sessions.begin() as session:
            jobs.erase(session, session.get_one(Screening, erased.screening_id))
        wait_for("it is known as lost", lambda: leases.lost(erased))
        assert not leases.lost(ended)
