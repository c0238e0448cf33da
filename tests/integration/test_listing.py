"""Pages of a list by score: complete, in order, without repetition, and read from few rows."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session, sessionmaker

from api import listing
from api.schemas.screening_list import ScreeningFilter
from screening import jobs
from screening.ids import uuid7
from screening.tables import Platform, Screening

Sessions = sessionmaker[Session]
COUNT = 400
EDGES = [0.0, 0.05, 0.3, 0.5, 0.95, 1.0]  # of bands: 0.3 is not exactly three tenths

ROWS = (
    """INSERT INTO screenings (id, platform_id, state, rank, attempt, created_at, finished_at)
       SELECT id, :platform, 'succeeded', at, 1, at, at
         FROM unnest(CAST(:ids AS uuid[]), CAST(:ats AS timestamptz[])) t (id, at)""",
    """INSERT INTO submissions (screening_id) SELECT unnest(CAST(:ids AS uuid[]))""",
    """INSERT INTO findings (screening_id, platform_id, attempt, label, score, area_fraction, extent,
              mask_verdict_conflict, regions, mask_key, mask_sha256, heatmap_key, heatmap_sha256, model, weights_sha256,
              preprocess, service, decode_ms, inference_ms, accepted_at)
       SELECT id, :platform, 1, CASE WHEN score >= 0.5 THEN 'fake' ELSE 'authentic' END, score, 0, 'none', false, '[]',
              'k', '\\x00', 'k', '\\x00', 'm', 'w', '1', '1', 1, 1, at
         FROM unnest(CAST(:ids AS uuid[]), CAST(:ats AS timestamptz[]), CAST(:scores AS float8[])) t (id, at, score)""",
)


@dataclass(frozen=True, slots=True)
class Row:
    """What a page is to be made of."""

    at: datetime
    id: Any
    score: float


@pytest.fixture
def rows(sessions: Sessions, platform: Platform, rng: random.Random) -> list[Row]:
    """Scores of every kind, several at the same moment, newest first."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    scores = [rng.choice([rng.random(), rng.random() ** 4, rng.choice(EDGES)]) for _ in range(COUNT)]
    made = [Row(start + timedelta(seconds=n // 3), uuid7(), score) for n, score in enumerate(scores)]
    insert(sessions, platform, made)
    return sorted(made, key=lambda row: (row.at, row.id), reverse=True)


def insert(sessions: Sessions, platform: Platform, rows: Sequence[Row]) -> None:
    values = {
        "platform": platform.id,
        "ids": [row.id for row in rows],
        "ats": [row.at for row in rows],
        "scores": [row.score for row in rows],
    }
    with sessions.begin() as session:
        for statement in ROWS:
            session.execute(text(statement), values)


def walk(sessions: Sessions, platform: Platform, **wanted: Any) -> list[Any]:
    """The ids of all pages, one after another."""
    ids: list[Any] = []
    after = None
    with sessions() as session:
        while True:
            page = listing.page(session, platform.id, ScreeningFilter(**wanted), after)
            assert len(page.rows) <= wanted.get("limit", 50)
            ids += [row.id for row in page.rows]
            if page.next is None:
                return ids
            after = page.next


def test_pages_by_score_hold_every_match_once_and_newest_first(
    sessions: Sessions, platform: Platform, rows: list[Row], rng: random.Random
) -> None:
    ranges = [(low, high) for low in [None, *EDGES] for high in [None, *EDGES]]
    ranges += [(rng.random(), None), (None, rng.random()), (rows[0].score, rows[0].score)]
    for low, high in ranges:
        expected = [row.id for row in rows if (low or 0) <= row.score <= (1 if high is None else high)]
        limit = rng.choice([1 + len(expected) // 5, 200])
        assert walk(sessions, platform, min_score=low, max_score=high, limit=limit) == expected, (low, high)


def test_a_range_of_scores_goes_together_with_other_filters(
    sessions: Sessions, platform: Platform, rows: list[Row]
) -> None:
    middle = rows[COUNT // 2].at
    recent = [row for row in rows if row.at >= middle]
    assert walk(sessions, platform, min_score=0.2, created_after=middle, limit=7) == [
        row.id for row in recent if row.score >= 0.2
    ]
    assert walk(sessions, platform, min_score=0.2, label="authentic", created_after=middle) == [
        row.id for row in recent if 0.2 <= row.score < 0.5
    ]
    assert walk(sessions, platform, min_score=0.2, state="succeeded") == walk(sessions, platform, min_score=0.2)
    assert walk(sessions, platform, min_score=0.2, state="failed") == []
    assert walk(sessions, platform, label="fake", min_score=0.6, max_score=0.5) == []


def test_erased_and_foreign_screenings_are_in_no_page_by_score(
    sessions: Sessions, platform: Platform, rows: list[Row]
) -> None:
    with sessions.begin() as session:
        jobs.erase(session, session.get_one(Screening, rows[3].id))
        other = Platform(name="other")
        session.add(other)
    expected = [row.id for row in rows if row.id != rows[3].id]
    assert walk(sessions, platform, min_score=0.0, limit=150) == expected
    assert walk(sessions, other, min_score=0.0) == []


def test_a_page_of_a_rare_range_is_read_from_few_rows(sessions: Sessions, engine: Engine, platform: Platform) -> None:
    """Sixty high scores among forty thousand low ones: a walk through all findings by time would read them all."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    made = [Row(start + timedelta(seconds=n), uuid7(), 0.97 if n % 650 == 0 else 0.01) for n in range(40_000)]
    insert(sessions, platform, made)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    assert len(walk(sessions, platform, min_score=0.9, limit=100)) == 62
    event.remove(engine, "before_cursor_execute", note)
    statement, parameters = asked[0]
    assert "width_bucket" in statement
    with engine.connect() as connection:
        explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
        plan = explained.scalar_one()[0]["Plan"]
    assert plan["Actual Rows"] == 62
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 1_000
