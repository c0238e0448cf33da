"""One line for all faults: its servers are killed and restarted, its workers replaced, its rows must all end."""

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

import pytest
import redis

from screening.broker import Queue
from tests.running_line import Process, RunningLine, picture, running_line, wait_for

# A fault. What a test costs is mostly the start of processes; even the smaller number comes to 400 in all.
UPLOADS = 60 if os.environ.get("ASSAY_SOAK") else 15


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say over how many uploads the guarantees were found to hold."""
    checked = len(RunningLine.checked)
    terminalreporter.write_line(f"uploads that ended once, with one event, whatever was done to the line: {checked}")


class FaultyLine:
    """A running line, and the one screen worker that it has at most."""

    def __init__(self, line: RunningLine) -> None:
        self.line = line
        self.sweeper = line.start("sweeper")
        self._worker: Process | None = None

    def worker(self) -> Process:
        """A live screen worker, ready; the last one, where it has survived."""
        if self._worker is None or not self._worker.alive:
            self._worker = self.line.screen_worker()
        return self._worker

    def no_worker(self) -> None:
        """Ask the worker to stop, and see it end."""
        if self._worker is not None and self._worker.alive:
            self._worker.stop()

    def accept(self, rng: random.Random, count: int = UPLOADS, *, ring: bool = True) -> list[UUID]:
        """As many uploads, no two of them equal."""
        return self.line.accept([picture(rng) for _ in range(count)], ring=ring)

    def wait_in_flight(self, ids: Sequence[UUID], rng: random.Random) -> None:
        """Until some have ended, a random number, and some run."""
        enough = rng.randint(1, len(ids) // 2)

        def underway() -> bool:
            states = self.line.states(ids)
            return states["succeeded"] >= enough and (states["running"] > 0 or states["succeeded"] == len(ids))

        wait_for(f"{enough} have ended and some run", underway)

    def wait_unrung(self) -> None:
        """Until no bell of what was accepted before is left: each sets off a drain of whatever is due by then."""
        with redis.Redis.from_url(self.line.redis.url) as client:  # Celery acknowledges a bell when its drain is over
            wait_for(
                "every bell is answered", lambda: client.llen(Queue.SCREENINGS) == 0 and client.hlen("unacked") == 0
            )

    def recovers(self, ids: Sequence[UUID], failed: Sequence[UUID] = ()) -> None:
        """What every fault must leave behind: each upload ended, and ended once."""
        self.line.wait_ended(ids)
        self.line.check(ids, failed)

    def forget_worker(self) -> None:
        """Have `worker` start another beside this one."""
        self._worker = None


@pytest.fixture(scope="package")
def faulty(run_folder: Path) -> Iterator[FaultyLine]:
    with running_line(run_folder / "faults") as line:
        yield FaultyLine(line)
