"""Does a list page cost the same however many rows there are? `assay bench api-lists`.

Pages of 50 at random depths, of a platform with 10,000 rows and of one with 1,000,000, unfiltered and through each
filter that names something rare. Measured over HTTP, in turns, so that what else the machine does meets both alike.
"""

import random
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import click
import httpx
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from api import pagination
from api.cursors import Cursors
from api.schemas.screening_list import ScreeningFilter
from screening import api_keys, platforms
from screening.api_keys import Scope
from screening.database import sync_engine
from tests.bench import results
from tests.bench.api_stack import Stack, percentile, stack

TARGET = 1.3
WARMING = 10  # pages before the measured ones: connections, plans and caches
FILTERS: dict[str, dict[str, Any]] = {
    "all": {},
    "state=failed": {"state": "failed"},
    "label=fake": {"label": "fake"},
    "outcome=block": {"outcome": "block"},
    "min_score=0.9": {"min_score": 0.9},
    "max_score=0.2": {"max_score": 0.2},
    "min_score=0.02": {"min_score": 0.02},
    "client_ref": {"client_ref": "post-77"},
}

SEED = (
    """INSERT INTO screenings (id, platform_id, state, rank, due_at, attempt, client_ref, created_at, started_at,
              finished_at)
       SELECT assay_uuid7(), p.id, CASE WHEN n % 100 = 0 THEN 'failed' ELSE 'succeeded' END, t, t, 1, 'post-' || n,
              t, t, t
         FROM platforms p, generate_series(1, CASE p.name WHEN 'small' THEN 10000 ELSE CAST(:rows AS int) END) n,
              LATERAL (SELECT assay_now() - n * interval '1 second' AS t) times
        WHERE p.name IN ('small', 'large')""",
    """INSERT INTO submissions (screening_id, metadata)
       SELECT id, '{"author": 1}' FROM screenings s
        WHERE NOT EXISTS (SELECT FROM submissions WHERE screening_id = s.id)""",
    """INSERT INTO images (id, screening_id, platform_id, blob_key, sha256, bytes, format, width, height, frames)
       SELECT assay_uuid7(), id, platform_id, id::text, sha256(id::text::bytea), 80000, 'jpeg', 640, 480, 1
         FROM screenings s WHERE NOT EXISTS (SELECT FROM images WHERE screening_id = s.id)""",
    """INSERT INTO findings (screening_id, platform_id, attempt, label, score, area_fraction, extent,
              mask_verdict_conflict, regions, mask_key, mask_sha256, heatmap_key, heatmap_sha256, model, weights_sha256,
              preprocess, service, decode_ms, inference_ms, policy_version, outcome, rule, accepted_at)
       SELECT id, platform_id, 1, CASE WHEN fake THEN 'fake' ELSE 'authentic' END,
              CASE WHEN fake THEN 0.95 ELSE 0.1 END,
              0.1, 'local', false, '[]', id::text, '\\x00', id::text, '\\x00', 'm', 'w', '1', '1', 1, 1, 1,
              CASE WHEN fake THEN 'block' ELSE 'allow' END, 'r', created_at
         FROM screenings s, LATERAL (SELECT client_ref LIKE '%77' AS fake) f
        WHERE state = 'succeeded' AND NOT EXISTS (SELECT FROM findings WHERE screening_id = s.id)""",
)


@click.command()
@click.option("--pages", default=300, show_default=True, help="Measured for each filter and size.")
@click.option("--rows", default=1_000_000, show_default=True, help="The larger size.")
def command(pages: int, rows: int) -> None:
    """A list page at 10,000 and 1,000,000 rows."""
    measured = measure(pages, rows)
    table = [
        [name, f"{m['p95_ms_small']:.1f} ms", f"{m['p95_ms_large']:.1f} ms", f"{m['ratio']:.2f}"]
        for name, m in measured["filters"].items()
    ]
    results.show(
        f"List page p95 (target ratio <= {TARGET})", ["filter", "10,000 rows", f"{rows:,} rows", "ratio"], table
    )
    results.save("api-lists", measured)


def measure(pages: int = 300, rows: int = 1_000_000) -> dict[str, Any]:
    """p95 in milliseconds for each filter at both sizes, and their ratios."""
    with stack() as running:
        engine = sync_engine(running.settings.database_url)
        small, large = _platform(engine, "small"), _platform(engine, "large")
        _fill(engine, rows)
        compared = {name: _compare(running, engine, given, pages, small, large) for name, given in FILTERS.items()}
        engine.dispose()
    return {"pages": pages, "rows": [10_000, rows], "target_ratio": TARGET, "filters": compared}


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two platforms."""

    id: UUID
    key: str


def _platform(engine: Engine, name: str) -> _Side:
    with Session(engine) as session, session.begin():
        platform = platforms.create(session, name)
        return _Side(platform.id, api_keys.create(session, platform.id, frozenset(Scope)))


def _fill(engine: Engine, rows: int) -> None:
    with engine.begin() as connection:
        for statement in SEED:
            connection.execute(text(statement), {"rows": rows} if ":rows" in statement else {})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _compare(
    running: Stack, engine: Engine, given: dict[str, Any], pages: int, small: _Side, large: _Side
) -> dict[str, float]:
    spent: dict[UUID, list[float]] = {small.id: [], large.id: []}
    places = {side.id: _places(engine, side, pages) for side in (small, large)}
    cursors, wanted = Cursors(running.settings.keys), ScreeningFilter(**given)
    with httpx.Client(base_url=running.server.url, timeout=120) as client:
        for number in range(pages + WARMING):
            for side in (small, large):
                cursor = cursors.encode(pagination.scope("screenings", side.id, wanted), *places[side.id][number])
                started = time.perf_counter()
                answer = client.get(
                    "/v1/screenings",
                    params={**given, "limit": 50, "cursor": cursor},
                    headers={"Authorization": f"Bearer {side.key}"},
                )
                if number >= WARMING:
                    spent[side.id].append(1000 * (time.perf_counter() - started))
                answer.raise_for_status()
    p95 = {side.id: percentile(spent[side.id], 0.95) for side in (small, large)}
    return {"p95_ms_small": p95[small.id], "p95_ms_large": p95[large.id], "ratio": p95[large.id] / p95[small.id]}


def _places(engine: Engine, side: _Side, count: int) -> list[tuple[datetime, UUID]]:
    """Rows at random depths, each the last one of the page before the measured one."""
    statement = "SELECT created_at, id FROM screenings WHERE platform_id = :platform AND random() < :share LIMIT 5000"
    with Session(engine) as session:
        total = session.execute(
            text("SELECT count(*) FROM screenings WHERE platform_id = :platform"), {"platform": side.id}
        ).scalar_one()
        rows = session.execute(text(statement), {"platform": side.id, "share": 5000 / total}).all()
    chance = random.Random(count)
    return [(row.created_at, row.id) for row in chance.choices(rows, k=count + WARMING)]
