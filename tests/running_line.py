"""What is a whole screening line to a test? Servers of its own, and real `assay` processes that it may kill."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import ClassVar
from uuid import UUID

import numpy as np
import psutil
import redis
from PIL import Image as PillowImage
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from screening import jobs, migrate, platforms
from screening.blobs import image_key, open_store
from screening.broker import Doorbell
from screening.database import sync_engine
from screening.embedded import EmbeddedPostgres, EmbeddedRedis
from screening.embedded.process import start
from screening.tables import TERMINAL, Attempt, Event, Finding, Screening
from tests.findings import intake

CHECKPOINT = Path(__file__).parent / "fixtures" / "defakerone" / "checkpoint"

# Everything that waits, waits briefly; nothing else differs from production.
BRIEF = {
    "ASSAY_LEASE_SECONDS": "4",
    "ASSAY_STALL_SECONDS": "30",
    "ASSAY_STOP_SECONDS": "12",
    "ASSAY_DRAIN_SECONDS": "5",
    "ASSAY_SWEEP_SECONDS": "0.3",
    "ASSAY_SWEEPER_SECONDS": "4",
    "ASSAY_ANNOUNCE_AGAIN_SECONDS": "1",
    "ASSAY_RETRY_SECONDS": "0.2",
    "ASSAY_BATCH_SIZE": "4",
    "ASSAY_DECODERS": "1",
    "ASSAY_WORKER_THREADS": "1",
    "ASSAY_WEIGHTS": str(CHECKPOINT),
    "ASSAY_DEVICE": "cpu",
}


def wait_for(what: str, holds: Callable[[], bool], seconds: float = 60, every: float = 0.05) -> None:
    """Return once it holds; fail, saying what did not happen, when time is up."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(every)


def picture(rng: random.Random, width: int = 96, height: int = 72) -> bytes:
    """A small JPEG that no other is equal to."""
    pixels = np.frombuffer(rng.randbytes(width * height * 3 // 64), np.uint8).reshape(height // 8, width // 8, 3)
    file = BytesIO()
    PillowImage.fromarray(pixels).resize((width, height)).save(file, "JPEG", quality=90)
    return file.getvalue()


class Process:
    """One command in a session of its own, with all its children in reach of a signal."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._process = start(command, log, env=dict(environment))

    def send(self, number: signal.Signals) -> None:
        """To the parent alone."""
        self._process.send_signal(number)

    def send_all(self, number: signal.Signals) -> None:
        """To the whole session: parent, pool children."""
        os.killpg(self._process.pid, number)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait(self, seconds: float = 30) -> int:
        """The exit status."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end:\n{self.log.read_text()[-3000:]}") from None

    def stop(self) -> None:
        """Ask it to end, and see it end well."""
        self.send(signal.SIGTERM)
        assert self.wait() == 0, self.log.read_text()[-3000:]

    def children(self) -> list[psutil.Process]:
        """Its direct children: of a worker, the pool."""
        return psutil.Process(self._process.pid).children()

    def cpu_seconds(self) -> float:
        """What it and everything below it have used so far, the dead children of the living included."""
        parent = psutil.Process(self._process.pid)
        times = [process.cpu_times() for process in (parent, *parent.children(recursive=True))]
        return sum(t.user + t.system + t.children_user + t.children_system for t in times)

    def session_alive(self) -> bool:
        """Whether anything in its session still runs."""
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def said(self, words: str, since: int = 0) -> bool:
        """Whether its log contains these words after an offset."""
        return words in self.log.read_text(errors="replace")[since:]


class RunningLine:
    """Servers, a blob folder, a platform, and the processes started so far."""

    checked: ClassVar[set[UUID]] = set()  # the screenings of all lines for which the guarantees were found to hold

    def __init__(self, folder: Path, extra: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.postgres = EmbeddedPostgres(folder / "postgres", "secret")
        self.redis = EmbeddedRedis(folder / "redis", "secret")
        self.blobs = folder / "blobs"
        self.processes: list[Process] = []
        self._extra = dict(extra or {})

    def begin(self) -> None:
        """Start the servers and migrate."""
        self.postgres.start()
        self.redis.start()
        self.database_url = self.postgres.create_database()
        self.engine = sync_engine(self.database_url)
        with self.engine.begin() as connection:
            migrate.upgrade(connection)
        self.sessions = sessionmaker(self.engine, expire_on_commit=False)
        with self.sessions.begin() as session:
            self.platform = platforms.create(session, "acme").id
        self.doorbell = Doorbell(self.redis.url)
        self.store = open_store(self.blob_url, self._extra.get("ASSAY_S3_ENDPOINT_URL"))

    @property
    def environment(self) -> dict[str, str]:
        ours = {
            "ASSAY_DATABASE_URL": self.database_url,
            "ASSAY_REDIS_URL": self.redis.url,
            "ASSAY_BLOB_URL": self.blob_url,
        }
        return {**os.environ, **BRIEF, **ours, **self._extra}

    @property
    def blob_url(self) -> str:
        return self._extra.get("ASSAY_BLOB_URL", self.blobs.as_uri())

    def start(self, *arguments: str, module: str = "screening", **environment: str) -> Process:
        """Start `assay ARGUMENTS`, or the same through another entry point."""
        log = self.folder / f"{'-'.join(arguments)}-{len(self.processes)}.log"
        command = [sys.executable, "-m", module, *arguments]
        process = Process(" ".join(arguments), command, {**self.environment, **environment}, log)
        self.processes.append(process)
        return process

    def screen_worker(self, module: str = "screening", **environment: str) -> Process:
        """A screen worker whose detector is ready."""
        worker = self.start("worker", "screen", module=module, **environment)
        wait_for("the detector is loaded", lambda: worker.said("detector.ready") or not worker.alive, 120)
        assert worker.alive, worker.log.read_text()
        return worker

    def accept(self, contents: Sequence[bytes], *, ring: bool = True) -> list[UUID]:
        """What the API does: bytes, then one transaction, then a bell that may be lost."""
        return [self.enqueue(self.put(content), ring=ring) for content in contents]

    def put(self, content: bytes) -> jobs.Intake:
        """The first half of accepting."""
        made = intake(self.platform, content)
        self.store.put(image_key(made.platform_id, made.screening_id), content)
        return made

    def enqueue(self, made: jobs.Intake, *, ring: bool = True) -> UUID:
        """The second half, without which nothing was accepted."""
        with self.sessions.begin() as session:
            jobs.enqueue(session, made)
        if ring:
            self.doorbell.ring_screening(made.screening_id)
        return made.screening_id

    def flush_redis(self) -> None:
        """Have Redis forget everything."""
        with redis.Redis.from_url(self.redis.url) as client:
            client.flushall()

    @contextmanager
    def blobs_away(self) -> Iterator[None]:
        """As root no permission stops a write, but a file where the folder was does."""
        aside = self.blobs.with_name("blobs-aside")
        self.blobs.rename(aside)
        self.blobs.touch()
        try:
            yield
        finally:
            self.blobs.unlink()
            aside.rename(self.blobs)

    def released(self, ids: Sequence[UUID], reason: str) -> int:
        """How many attempts were given back for this reason."""
        statement = select(func.count()).where(
            Attempt.screening_id.in_(ids), Attempt.outcome == "released", Attempt.detail == reason
        )
        with self.sessions() as session:
            return session.scalar(statement) or 0

    def states(self, ids: Sequence[UUID]) -> Counter[str]:
        with self.sessions() as session:
            return Counter(session.scalars(select(Screening.state).where(Screening.id.in_(ids))))

    def wait_ended(self, ids: Sequence[UUID], seconds: float = 180) -> None:
        """Until every one has reached a terminal state."""

        def ended() -> bool:
            return sum(self.states(ids)[state] for state in TERMINAL) == len(ids)

        try:
            wait_for("every accepted screening ends", ended, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.states(ids)}\n{self.logs()}") from None

    def logs(self) -> str:
        return "\n".join(f"--- {p.name}\n{p.log.read_text(errors='replace')[-3000:]}" for p in self.processes)

    def check(self, ids: Sequence[UUID], failed: Sequence[UUID] = ()) -> None:
        """The guarantees: each ended once, as it should, with one event, and its timeline makes sense."""
        with self.sessions() as session:
            rows = list(session.scalars(select(Screening).where(Screening.id.in_(ids))))
            assert len(rows) == len(ids)
            assert {r.id for r in rows if r.state == "failed"} == set(failed), [
                (r.error_code, r.error_detail) for r in rows if r.state == "failed" and r.id not in failed
            ]
            events = Counter(session.scalars(select(Event.screening_id).where(Event.screening_id.in_(ids))))
            assert events == dict.fromkeys(ids, 1)
            for row in rows:
                self._check_one(session, row)
        self.checked.update(ids)

    def _check_one(self, session: Session, row: Screening) -> None:
        attempts = list(
            session.scalars(select(Attempt).where(Attempt.screening_id == row.id).order_by(Attempt.attempt))
        )
        assert [a.attempt for a in attempts] == list(range(1, row.attempt + 1))
        assert all(a.ended_at is not None for a in attempts)
        outcomes = [a.outcome for a in attempts]
        ends = {"succeeded"} if row.state == "succeeded" else {"failed", "expired"}
        assert outcomes[-1] in ends, outcomes
        assert not {"succeeded", "failed"} & set(outcomes[:-1]), outcomes
        finding = session.get(Finding, row.id)
        assert (finding is not None) == (row.state == "succeeded")
        if finding is not None:
            assert finding.attempt == row.attempt
            assert self.store.get(finding.mask_key).startswith(b"\x89PNG")
            assert self.store.get(finding.heatmap_key).startswith(b"\x89PNG")

    def end(self) -> None:
        """Kill what is left, children included."""
        for process in self.processes:
            if process.alive:
                process.send_all(signal.SIGCONT)
                process.send_all(signal.SIGKILL)
                process.wait()
        self.engine.dispose()
        self.redis.stop()
        self.postgres.stop()


@contextmanager
def running_line(folder: Path, extra: Mapping[str, str] | None = None) -> Iterator[RunningLine]:
    """A line that leaves no process behind."""
    line = RunningLine(folder, extra)
    try:
        line.begin()
        yield line
    finally:
        line.end()
