"""What do these tests share? One line with one screen worker, which takes seconds to start, and a receiver each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.receiver import Receiver, receiving
from tests.running_line import RunningLine, running_line

# Fetching from this machine is allowed, and slow sites are given up soon.
FETCHING = {"ASSAY_ALLOWED_RANGES": "127.0.0.0/8", "ASSAY_FETCH_SECONDS": "3", "ASSAY_FETCHERS": "4"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server that hears webhooks, and answers each path as it is told."""
    with receiving() as made:
        yield made


@pytest.fixture(scope="session")
def line(run_folder: Path) -> Iterator[RunningLine]:
    """A line at work. Modules that stop something or set something else make their own."""
    with running_line(run_folder / "line", FETCHING) as running:
        running.screen_worker()
        running.start("sweeper")
        yield running
