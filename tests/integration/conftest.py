"""What do the tests of whole uploads share? One line with one screen worker, which takes seconds to start."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running_line import RunningLine, running_line

# Fetching from this machine is allowed, and slow sites are given up soon.
FETCHING = {"ASSAY_ALLOWED_RANGES": "127.0.0.0/8", "ASSAY_FETCH_SECONDS": "3", "ASSAY_FETCHERS": "4"}


@pytest.fixture(scope="session")
def line(run_folder: Path) -> Iterator[RunningLine]:
    """A line at work. Modules that stop something or set something else make their own."""
    with running_line(run_folder / "line", FETCHING) as running:
        running.screen_worker()
        running.start("sweeper")
        yield running
