"""Which screenings does this process hold, and are they still its own?

A thread renews the leases at a third of their time, for as long as the work makes progress. A hung worker stops
renewing, so that others take its rows; what was taken or erased meanwhile is known as lost, and not worked on further.
Once its rows are others' it has nothing left to hang for: it ends, and the pool starts another in its place.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from types import TracebackType
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from screening import jobs
from screening.jobs import Claim
from worker import metrics
from worker.ledger import Ledger

logger = structlog.get_logger(__name__)


def end_process() -> None:
    """End this pool child, whatever its threads wait for."""
    os._exit(1)


class Leases:
    """The claims in hand, and the heartbeat that keeps them. A context manager: inside, the heartbeat runs."""

    def __init__(
        self, ledger: Ledger, *, lease: float, stall: float, give_up: Callable[[], object] = end_process
    ) -> None:
        self._ledger = ledger
        self._lease = lease
        self._stall = stall
        self._give_up = give_up
        self._claims: dict[UUID, Claim] = {}
        self._lost: set[UUID] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._progress = time.monotonic()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Leases":
        self._ended.clear()
        self.progress()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._claims.clear()
            self._lost.clear()

    def hold(self, claims: Iterable[Claim]) -> None:
        """Take claims in hand."""
        with self._lock:
            self._claims |= {claim.screening_id: claim for claim in claims}
        self.progress()

    def drop(self, claim: Claim) -> None:
        """Put a claim down, ended or given back."""
        with self._lock:
            self._claims.pop(claim.screening_id, None)
            self._lost.discard(claim.screening_id)
        self.progress()

    def lost(self, claim: Claim) -> bool:
        """Whether somebody else holds or has erased this row by now."""
        with self._lock:
            return claim.screening_id in self._lost

    def progress(self) -> None:
        """Say that something was finished."""
        self._progress = time.monotonic()
        metrics.PROGRESS.set_to_current_time()

    @property
    def stalled(self) -> bool:
        """Whether nothing was finished for too long."""
        return self._since_progress() > self._stall

    def _since_progress(self) -> float:
        return time.monotonic() - self._progress

    def _beat(self) -> None:
        while not self._ended.wait(self._lease / 3):
            if self.stalled:
                logger.error("leases.stalled", held=len(self._claims), seconds=self._stall)
                if self._since_progress() > self._stall + self._lease:
                    self._give_up()
                continue
            try:
                self._renew()
            except SQLAlchemyError as error:
                logger.warning("leases.not_renewed", error=type(error).__name__)

    def _renew(self) -> None:
        with self._lock:
            held = list(self._claims.values())
        lease = timedelta(seconds=self._lease)
        kept = self._ledger.once(lambda session: jobs.heartbeat(session, held, lease=lease))
        with self._lock:
            # What ended since the list was made is not lost.
            self._lost |= {c.screening_id for c in held if c.screening_id in self._claims} - kept
