"""A platform with a hundred thousand queued rows delays another's single upload by a couple of batches at most."""

import os
import time
from collections.abc import Callable
from datetime import timedelta
from statistics import median, quantiles
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session, sessionmaker

from screening import jobs, platforms, progress
from screening.jobs_sql import CLAIM_BATCH
from screening.tables import Platform, Priority
from tests.findings import intake

Sessions = sessionmaker[Session]
FLOOD = 100_000 if os.environ.get("ASSAY_SOAK") else 10_000
BATCH = 8
LEASE = timedelta(seconds=60)
NOBODY = {"sated": False, "sated_platforms": []}

# What `jobs.enqueue` writes, many at a time; a test holds the two together.
MANY = """
WITH made AS (
    INSERT INTO screenings (id, platform_id, priority, rank, created_at)
    SELECT assay_uuid7(), :platform, 'bulk', assay_now() + interval '1 hour' + n * interval '1 millisecond', assay_now()
      FROM generate_series(1, :count) n
    RETURNING id
), sent AS (
    INSERT INTO submissions (screening_id) SELECT id FROM made
)
INSERT INTO images (id, screening_id, platform_id, blob_key, sha256, bytes, format, width, height)
SELECT assay_uuid7(), id, :platform, 'k', decode(md5(id::text), 'hex'), 1, 'jpeg', 8, 8 FROM made
"""


@pytest.fixture
def flood(sessions: Sessions, engine: Engine, platform: Platform) -> Platform:
    """A platform with everything that it has, queued as bulk."""
    _flood(sessions, platform)
    _analyze(engine)
    return platform


def _flood(sessions: Sessions, platform: Platform, count: int = FLOOD) -> None:
    with sessions.begin() as session:
        session.execute(text(MANY), {"platform": platform.id, "count": count})


def _analyze(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


def claim(sessions: Sessions) -> list[jobs.Claim]:
    with sessions.begin() as session:
        return jobs.claim(session, limit=BATCH, worker="w", lease=LEASE)


def upload(sessions: Sessions, platform: Platform, priority: Priority = Priority.NORMAL) -> UUID:
    with sessions.begin() as session:
        return jobs.enqueue(session, intake(platform.id, priority=priority)).id


@pytest.mark.parametrize("priority", [Priority.NORMAL, Priority.BULK])
def test_a_single_upload_behind_a_flood_is_in_the_next_two_batches(
    sessions: Sessions, flood: Platform, priority: Priority
) -> None:
    with sessions.begin() as session:
        other = platforms.create(session, "other")
    for _ in range(5):
        for _ in range(3):
            assert len(claim(sessions)) == BATCH
        lone = upload(sessions, other, priority)
        batches = [[c.screening_id for c in claim(sessions)] for _ in range(2)]
        assert lone in batches[0] + batches[1]


def test_many_small_platforms_beside_a_flood_are_all_served_within_their_turns(
    sessions: Sessions, flood: Platform
) -> None:
    lone = []
    for number in range(3 * BATCH):
        with sessions.begin() as session:
            small = platforms.create(session, f"small-{number}")
        lone.append(upload(sessions, small))
    served = {c.screening_id for _ in range(5) for c in claim(sessions)}
    assert served >= set(lone)


def test_a_heavier_flood_takes_its_share_and_no_more(sessions: Sessions, flood: Platform) -> None:
    with sessions.begin() as session:
        session.get_one(Platform, flood.id).weight = 7
        other = platforms.create(session, "other")
    for _ in range(30):
        upload(sessions, other)
    taken = [c.platform_id for _ in range(10) for c in claim(sessions)]
    assert (taken.count(flood.id), taken.count(other.id)) == (70, 10)


def _fresh(sessions: Sessions, engine: Engine, platform: Platform) -> None:
    """Statistics of the queue as it is."""
    _flood(sessions, platform)
    _analyze(engine)


def _absent(sessions: Sessions, engine: Engine, platform: Platform) -> None:
    """A database just restored, or just made."""
    _flood(sessions, platform)


def _of_a_quiet_hour(sessions: Sessions, engine: Engine, platform: Platform) -> None:
    """The usual case: statistics were last gathered while nothing waited, and then came the flood."""
    _flood(sessions, platform)
    with sessions.begin() as session:
        session.execute(text("UPDATE screenings SET state = 'succeeded', finished_at = assay_now()"))
    _analyze(engine)
    _flood(sessions, platform)


@pytest.mark.parametrize("statistics", [_fresh, _absent, _of_a_quiet_hour])
def test_a_claim_reads_a_few_rows_however_deep_the_queue_is(
    sessions: Sessions, engine: Engine, platform: Platform, statistics: Callable[[Sessions, Engine, Platform], None]
) -> None:
    """What a claim costs is what it touches: each scan is by index, and stops after the pool."""
    with sessions.begin() as session:  # before autovacuum comes by
        session.execute(text("ALTER TABLE screenings SET (autovacuum_enabled = off)"))
    statistics(sessions, engine, platform)
    parameters = {"limit": BATCH, "pool": 4 * BATCH, "lease": LEASE, "worker": "w", **NOBODY}
    plan = explain(sessions, CLAIM_BATCH, parameters)
    scanned = [n for n in walk(plan) if n.get("Relation Name") == "screenings" and "Scan" in n["Node Type"]]
    assert scanned
    for node in scanned:
        assert node["Node Type"] != "Seq Scan", node
        assert node["Actual Rows"] * node["Actual Loops"] <= 8 * BATCH, node
    for node in walk(plan):
        if node["Node Type"] == "Bitmap Index Scan":
            assert node["Actual Rows"] <= 8 * BATCH, node
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 3_000


@pytest.mark.parametrize("statistics", [_fresh, _absent, _of_a_quiet_hour])
def test_whether_anything_waits_is_asked_of_the_waiting_alone(
    sessions: Sessions, engine: Engine, platform: Platform, statistics: Callable[[Sessions, Engine, Platform], None]
) -> None:
    """Asked many times a minute, and most often of a long table in which nothing waits."""
    statistics(sessions, engine, platform)
    with sessions.begin() as session:
        session.execute(text("UPDATE screenings SET state = 'succeeded', finished_at = assay_now()"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM screenings"))
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_rest: Any) -> None:
        asked.append(statement)
        parameters.append(values)

    parameters: list[Any] = []
    event.listen(engine, "before_cursor_execute", note)
    with sessions.begin() as session:
        assert not progress.due_left(session)
        assert progress.queued(session, platform.id, at_most=1_000) == 0
        assert progress.oldest_due_seconds(session) == 0
        assert jobs.unannounced(session, limit=100, older_than=timedelta(0)) == []
    event.remove(engine, "before_cursor_execute", note)
    assert len(asked) == 4
    for statement, values in zip(asked, parameters, strict=True):
        with engine.connect() as connection:
            explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", values)
            [plan] = explained.scalar_one()
        assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 100, statement


def explain(sessions: Sessions, statement: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Run a statement and take it back; the plan as it went."""
    with sessions.begin() as session:
        explained = session.execute(text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"), parameters)
        plan: dict[str, Any] = explained.scalar_one()[0]["Plan"]
        session.rollback()
    return plan


def walk(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(below for child in node.get("Plans", []) for below in walk(child))]


def test_the_flood_of_these_tests_is_what_enqueueing_writes(sessions: Sessions, platform: Platform) -> None:
    upload(sessions, platform, Priority.BULK)
    with sessions.begin() as session:
        session.execute(text(MANY), {"platform": platform.id, "count": 1})
        rows = session.execute(
            text(
                "SELECT s.state, s.priority, s.alone, s.rank - s.created_at > interval '59 minutes',"
                "       s.due_at <= assay_now()"
                "  FROM screenings s JOIN submissions b ON b.screening_id = s.id JOIN images i ON i.screening_id = s.id"
            )
        ).all()
    assert rows[0] == rows[1]
    assert len(rows) == 2


@pytest.mark.soak
def test_the_latency_of_claims_at_depth_is_printed(sessions: Sessions, flood: Platform) -> None:
    """No limit is asserted: what a claim touches is, above."""
    times = []
    for _ in range(100):
        start = time.perf_counter()
        assert len(claim(sessions)) == BATCH
        times.append((time.perf_counter() - start) * 1000)
    p50, p95 = median(times), quantiles(times, n=20)[18]
    print(f"claim of {BATCH} at {FLOOD} queued: p50 {p50:.1f} ms, p95 {p95:.1f} ms")
