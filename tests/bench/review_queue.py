"""Does the review queue stay as quick with a million screenings as with ten thousand?

One fifth of the screenings waits before people, one fifth has been decided, in each size alike. Claims (with the
settling that precedes them) and boards are timed in turn on both databases, so that other load falls on both.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from uuid import UUID

import click
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from screening import board, decisions, migrate, platforms, reviews
from screening.actors import Actor, Grant, Role
from screening.database import sync_engine
from screening.embedded import EmbeddedPostgres
from screening.ids import uuid7
from tests.bench import results

FILL = (
    """INSERT INTO screenings (id, platform_id, state, rank, created_at, finished_at)
       SELECT assay_uuid7(), :platform, 'succeeded', now(), now() - n * interval '1 second', now()
         FROM generate_series(1, :count) n""",
    """INSERT INTO findings (screening_id, platform_id, attempt, label, score, area_fraction, extent,
              mask_verdict_conflict, regions, mask_key, mask_sha256, heatmap_key, heatmap_sha256, model,
              weights_sha256, preprocess, service, decode_ms, inference_ms, accepted_at)
       SELECT id, platform_id, 1, 'fake', random(), 0.1, 'local', false, '[]', 'm', '', 'h', '', 'm', 'w', 'p', 's',
              1, 1, created_at FROM screenings""",
    """INSERT INTO reviews (id, platform_id, screening_id, queue, state, risk, rank, due_at, created_at, verdict,
              action, decided_at)
       SELECT assay_uuid7(), platform_id, id, 'queue-' || n % 4,
              CASE WHEN n % 5 = 0 THEN 'pending' ELSE 'decided' END, random(),
              created_at + random() * interval '1 day', created_at + interval '1 day', created_at,
              CASE WHEN n % 5 = 1 THEN 'fake' END, CASE WHEN n % 5 = 1 THEN 'block' END,
              CASE WHEN n % 5 = 1 THEN now() END
         FROM (SELECT *, row_number() OVER () AS n FROM screenings) s WHERE n % 5 < 2""",
    """INSERT INTO decisions (id, review_id, platform_id, actor_id, alias, stage, verdict, action, seconds, settled_at)
       SELECT assay_uuid7(), id, platform_id, gen_random_uuid(), 'rvr', 'first', 'fake', 'block', 5, now()
         FROM reviews WHERE state = 'decided'""",
)


class Queue:
    """One database of a size, and somebody who works in it."""

    def __init__(self, server: EmbeddedPostgres, size: int) -> None:
        self.size = size
        self.engine: Engine = sync_engine(server.create_database(f"queue_{size}"))
        with self.engine.begin() as connection:
            migrate.upgrade(connection)
        with Session(self.engine) as session, session.begin():
            platform_id: UUID = platforms.create(session, "bench").id
        self.actor = Actor(uuid7(), {platform_id: Grant(Role.LEAD, "rvr_bench")})
        with self.engine.begin() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))  # no foreign key checks
            for statement in FILL:
                connection.execute(text(statement), {"platform": platform_id, "count": size})
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
        self.times: dict[str, list[float]] = {"claim": [], "board": []}

    def round(self) -> None:
        """One claim, given back untimed, and one board."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            review = self._timed("claim", lambda: (decisions.tend(session), reviews.claim(session, self.actor))[1])
            assert review is not None
            reviews.release(session, self.actor, review.id, reviews.token(review))
        with Session(self.engine) as session, session.begin():
            self._timed("board", lambda: board.board(session, self.actor))

    def _timed(self, name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = work()
        self.times[name].append((time.perf_counter() - start) * 1000)
        return result

    def figures(self) -> dict[str, dict[str, float]]:
        """Milliseconds by operation, without the first tenth, which warms caches up."""
        kept = {name: times[len(times) // 10 :] for name, times in self.times.items()}
        return {name: {"p50": round(median(t), 3), "p95": round(quantiles(t, n=20)[-1], 3)} for name, t in kept.items()}


@click.command()
@click.option("--sizes", type=int, nargs=2, default=(10_000, 1_000_000), show_default=True)
@click.option("--rounds", type=int, default=300, show_default=True)
def command(sizes: tuple[int, int], rounds: int) -> None:
    """Claim and queue board, p95, with few and with many screenings."""
    with tempfile.TemporaryDirectory(prefix="assay-bench-", dir="/tmp") as folder:  # see EmbeddedPostgres: a short path
        Path(folder).chmod(0o711)
        server = EmbeddedPostgres(Path(folder) / "postgres", "secret", fsync=False)
        server.start()
        try:
            report = measure(server, sizes, rounds)
        finally:
            server.stop()
    rows = [
        (f"{name} at {size:,}", f"{t['p50']:.1f} ms", f"{t['p95']:.1f} ms")
        for size, figures in report["milliseconds"].items()
        for name, t in figures.items()
    ]
    results.show(f"Review queue; ratios of p95: {report['p95_ratio']}", ("", "p50", "p95"), rows)
    results.save("review-queue", report)


def measure(server: EmbeddedPostgres, sizes: tuple[int, int], rounds: int) -> dict[str, Any]:
    """p50 and p95 by size, and the ratio of the larger's p95 to the smaller's."""
    queues = [Queue(server, size) for size in sizes]
    for _ in range(rounds):
        for queue in queues:
            queue.round()
    found = {queue.size: queue.figures() for queue in queues}
    small, large = (found[size] for size in sizes)
    ratios = {name: round(large[name]["p95"] / small[name]["p95"], 3) for name in small}
    return {"milliseconds": found, "p95_ratio": ratios, "rounds": rounds}
