"""One line for all faults: its servers are killed and restarted, its workers replaced, its rows must all end."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running_line import Process, RunningLine, running_line

UPLOADS = 100 if os.environ.get("ASSAY_SOAK") else 30  # a fault


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

    def forget_worker(self) -> None:
        """Have `worker` start another beside this one."""
        self._worker = None


@pytest.fixture(scope="package")
def faulty(run_folder: Path) -> Iterator[FaultyLine]:
    with running_line(run_folder / "faults") as line:
        yield FaultyLine(line)
