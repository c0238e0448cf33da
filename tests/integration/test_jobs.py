"""The life of a screening row: claimed once, fenced, rescued, shared fairly, ended once with one event."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, sessionmaker

from screening import jobs, platforms, progress
from screening.errors import Failure, FailureCode
from screening.tables import Attempt, Event, Finding, Platform, Priority, Screening, State
from tests.findings import finding, intake

LEASE = timedelta(seconds=60)
Sessions = sessionmaker[Session]


def enqueue(sessions: Sessions, platform: Platform, count: int = 1, priority: Priority = Priority.NORMAL) -> list[UUID]:
    with sessions.begin() as session:
        return [jobs.enqueue(session, intake(platform.id, priority=priority)).id for _ in range(count)]


def claim(sessions: Sessions, limit: int = 8, lease: timedelta = LEASE) -> list[jobs.Claim]:
    with sessions.begin() as session:
        return jobs.claim(session, limit=limit, worker="w1", lease=lease)


def claim_alone(sessions: Sessions, lease: timedelta = LEASE) -> list[jobs.Claim]:
    with sessions.begin() as session:
        return jobs.claim_alone(session, worker="w1", lease=lease)


def row(sessions: Sessions, screening_id: UUID) -> Screening:
    with sessions() as session:
        return session.get_one(Screening, screening_id)


def events(sessions: Sessions, screening_id: UUID) -> list[str]:
    with sessions() as session:
        return list(session.scalars(select(Event.type).where(Event.screening_id == screening_id)))


def test_a_claimed_row_runs_under_a_new_attempt_with_its_input(sessions: Sessions, platform: Platform) -> None:
    [screening_id] = enqueue(sessions, platform)
    [held] = claim(sessions)
    assert (held.screening_id, held.attempt, held.alone) == (screening_id, 1, False)
    assert held.blob_key is not None
    assert row(sessions, screening_id).state == State.RUNNING
    assert claim(sessions) == []


def test_two_workers_never_hold_the_same_row(sessions: Sessions, platform: Platform) -> None:
    ids = enqueue(sessions, platform, 60)

    def drain() -> list[UUID]:
        mine: list[UUID] = []
        while claims := claim(sessions, 4):
            mine += [c.screening_id for c in claims]
        return mine

    with ThreadPoolExecutor(4) as pool:
        claimed = [i for part in pool.map(lambda _: drain(), range(4)) for i in part]
    claimed += drain()
    assert Counter(claimed) == Counter(ids)


def test_completing_writes_finding_and_one_event(sessions: Sessions, platform: Platform) -> None:
    [screening_id] = enqueue(sessions, platform)
    [held] = claim(sessions)
    with sessions.begin() as session:
        assert jobs.complete(session, held, finding(held))
    assert row(sessions, screening_id).state == State.SUCCEEDED
    assert events(sessions, screening_id) == ["screening.completed"]


def test_a_stale_worker_changes_nothing(sessions: Sessions, platform: Platform) -> None:
    [screening_id] = enqueue(sessions, platform)
    [stale] = claim(sessions, lease=timedelta(seconds=-1))
    with sessions.begin() as session:
        assert jobs.rescue(session, limit=10, max_strikes=3) == 1
    [fresh] = claim_alone(sessions)
    failure = Failure(FailureCode.UNDECODABLE, "")
    with sessions.begin() as session:
        assert not jobs.complete(session, stale, finding(stale))
        assert not jobs.fail(session, stale, failure, strike=False, max_strikes=3, retry_in=0)
        assert jobs.heartbeat(session, [stale, fresh], lease=LEASE) == {screening_id}
    assert row(sessions, screening_id).state == State.RUNNING
    with sessions.begin() as session:
        assert jobs.complete(session, fresh, finding(fresh))
        assert session.scalar(select(func.count()).select_from(Finding)) == 1
    assert events(sessions, screening_id) == ["screening.completed"]


def test_an_expired_lease_is_claimed_alone_and_only_dying_alone_is_a_strike(
    sessions: Sessions, platform: Platform
) -> None:
    ids = enqueue(sessions, platform, 2)
    claim(sessions, lease=timedelta(seconds=-1))
    for strikes in range(3):
        with sessions.begin() as session:
            jobs.rescue(session, limit=10, max_strikes=3)
        assert claim(sessions) == []
        assert {row(sessions, i).strikes for i in ids} == {strikes}
        for _ in ids:
            assert len(claim_alone(sessions, lease=timedelta(seconds=-1))) == 1
    with sessions.begin() as session:
        assert jobs.rescue(session, limit=10, max_strikes=3) == 2
    for i in ids:
        assert (row(sessions, i).state, row(sessions, i).error_code) == (State.FAILED, "worker_crashed")
        assert events(sessions, i) == ["screening.failed"]


def test_a_release_costs_no_strike_and_waits(sessions: Sessions, platform: Platform) -> None:
    [screening_id] = enqueue(sessions, platform)
    [held] = claim(sessions)
    with sessions.begin() as session:
        assert jobs.release(session, held, reason="shutdown", retry_in=3600)
    assert row(sessions, screening_id).strikes == 0
    assert claim(sessions) == []
    with sessions.begin() as session:
        session.execute(text("SET LOCAL assay.clock_offset = '2 hours'"))
        assert len(jobs.claim(session, limit=1, worker="w1", lease=LEASE)) == 1


def test_strikes_of_the_image_end_it_as_failed(sessions: Sessions, platform: Platform) -> None:
    [screening_id] = enqueue(sessions, platform)
    failure = Failure(FailureCode.INFERENCE_FAILED, "The detector failed on this image.")
    for _ in range(3):
        [held] = claim(sessions)
        with sessions.begin() as session:
            assert jobs.fail(session, held, failure, strike=True, max_strikes=3, retry_in=0)
    assert row(sessions, screening_id).error_code == "inference_failed"
    assert events(sessions, screening_id) == ["screening.failed"]
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Attempt)) == 3


@pytest.mark.parametrize("live", ["queued", "running"])
def test_erasing_ends_a_live_row_and_fences_its_worker(sessions: Sessions, platform: Platform, live: str) -> None:
    [screening_id] = enqueue(sessions, platform)
    held = claim(sessions) if live == "running" else []
    with sessions.begin() as session:
        jobs.erase(session, session.get_one(Screening, screening_id))
    with sessions.begin() as session:
        assert not any(jobs.complete(session, c, finding(c)) for c in held)
    erased = row(sessions, screening_id)
    assert (erased.state, erased.error_code) == (State.FAILED, "erased")
    assert events(sessions, screening_id) == ["screening.failed"]


def test_a_lone_upload_shares_the_next_batch_with_a_flood(sessions: Sessions, platform: Platform) -> None:
    enqueue(sessions, platform, 200, Priority.BULK)
    with sessions.begin() as session:
        other = platforms.create(session, "other")
    [lone] = enqueue(sessions, other)
    assert lone in [c.screening_id for c in claim(sessions, 8)]


def test_weights_divide_a_batch(sessions: Sessions, platform: Platform) -> None:
    with sessions.begin() as session:
        heavy = platforms.create(session, "heavy", weight=3)
    enqueue(sessions, platform, 50)
    enqueue(sessions, heavy, 50)
    shares = Counter(c.platform_id for c in claim(sessions, 40))
    assert shares == {heavy.id: 30, platform.id: 10}


def test_with_more_platforms_than_places_each_gets_its_turn(sessions: Sessions) -> None:
    owners = []
    for number in range(9):
        with sessions.begin() as session:
            owners.append(platforms.create(session, f"p{number}"))
        enqueue(sessions, owners[-1], 5)
    served = {c.platform_id for _ in range(3) for c in claim(sessions, 3)}
    assert served == {p.id for p in owners}


def test_high_goes_before_normal_before_bulk_but_waiting_counts(sessions: Sessions, platform: Platform) -> None:
    [bulk] = enqueue(sessions, platform, 1, Priority.BULK)
    [normal] = enqueue(sessions, platform, 1, Priority.NORMAL)
    [high] = enqueue(sessions, platform, 1, Priority.HIGH)
    assert [claim(sessions, 1)[0].screening_id for _ in range(2)] == [high, normal]
    with sessions.begin() as session:
        session.execute(text("SET LOCAL assay.clock_offset = '2 hours'"))
        jobs.enqueue(session, intake(platform.id))
    with sessions.begin() as session:
        session.execute(text("SET LOCAL assay.clock_offset = '2 hours'"))
        [first] = jobs.claim(session, limit=1, worker="w1", lease=LEASE)
    assert first.screening_id == bulk


def test_a_lost_doorbell_is_rung_again_but_not_at_once(sessions: Sessions, platform: Platform) -> None:
    [screening_id] = enqueue(sessions, platform)
    with sessions.begin() as session:
        assert jobs.unannounced(session, limit=10, older_than=timedelta(seconds=10)) == []
        session.execute(text("SET LOCAL assay.clock_offset = '1 minute'"))
        assert jobs.unannounced(session, limit=10, older_than=timedelta(seconds=10)) == [screening_id]
        assert jobs.unannounced(session, limit=10, older_than=timedelta(seconds=10)) == []
        assert progress.oldest_due_seconds(session) == pytest.approx(60, abs=5)
