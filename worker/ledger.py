"""How does a worker write rows through a database that comes and goes?

Each change is one transaction, tried again while the connection fails. Repeating is safe: every change is fenced by the
attempt, so a commit whose answer was lost finds the row no longer running and writes nothing.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

logger = structlog.get_logger(__name__)

T = TypeVar("T")

CONNECTION_ERRORS = (OperationalError, InterfaceError)
FIRST_WAIT = 0.1
LONGEST_WAIT = 2.0


class Ledger:
    """Runs changes of rows, each in a transaction of its own. Thread-safe."""

    def __init__(self, sessions: sessionmaker[Session], patience: float) -> None:
        self._sessions = sessions
        self._patience = patience  # seconds

    def once(self, change: Callable[[Session], T]) -> T:
        """Run a change; a failing database raises at once."""
        with self._sessions.begin() as session:
            return change(session)

    def write(self, change: Callable[[Session], T]) -> T:
        """Run a change, waiting out a database that is away; raises its error when patience ends."""
        deadline = time.monotonic() + self._patience
        wait = FIRST_WAIT
        while True:
            try:
                return self.once(change)
            except CONNECTION_ERRORS as error:
                if time.monotonic() + wait > deadline:
                    raise
                logger.warning("ledger.away", error=type(error.orig).__name__, wait=wait)
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)
