"""What happens to rows that nobody was told about?

Every few seconds one process, the holder of a PostgreSQL advisory lock, looks for rows that should move and do not: a
lease that ran out, a bell that was lost, a delivery that is due. It puts the first back and rings for all. It can run
anywhere and any number of times; those without the lock stand by.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from screening import database, decisions, deliveries, jobs, retention
from screening.broker import Doorbell, Queue
from screening.settings import Settings

logger = structlog.get_logger(__name__)

LOCK = {"family": 0x41535359, "which": 1}  # the two-number form, apart from the locks of single numbers
AT_ONCE = 1_000  # rows a statement
# One bell sets off a drain of everything due, so more bells than workers are only noise; and a drain takes a minute, so
# a backlog of hours must not pile them up.
MOST_BELLS = 16
DAILY = 3600.0  # seconds between looks at what days decide: retention, old idempotency keys
BLOB_SWEEP = 24  # of those looks; listing a whole blob store is not free

# The lock belongs to a session, and a sweeper that is stopped keeps its session. It says something after every sweep;
# where it does not for this long, the server ends it, and one that stands by takes over.
GIVE_UP_LOCK = text("SELECT set_config('idle_session_timeout', :milliseconds, false)")
TRY_LOCK = text("SELECT pg_try_advisory_lock(:family, :which)")
EXPIRE_IDEMPOTENCY = text(
    "DELETE FROM idempotency_records WHERE created_at < assay_now() - make_interval(hours => :hours)"
)


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep did."""

    rescued: int
    rung: int


class Sweeper:
    """Sweeps until told to stop. Survives a database or a Redis that goes away."""

    def __init__(self, engine: Engine, doorbell: Doorbell, settings: Settings) -> None:
        self._engine = engine
        self._doorbell = doorbell
        self._settings = settings
        self._ended = threading.Event()
        self._next_daily = 0.0
        self._looks = 0

    def stop(self) -> None:
        """End after the sweep that is under way; safe in a signal handler."""
        self._ended.set()

    def run(self) -> None:
        """Sweep every `sweep_seconds` while holding the lock; try for it as often without."""
        while not self._ended.is_set():
            try:
                with self._engine.connect() as connection:
                    self._hold(connection)
            except SQLAlchemyError as error:
                logger.warning("sweeper.database", error=type(error).__name__, detail=database.cause(error))
            self._ended.wait(self._settings.sweep_seconds)

    def _hold(self, connection: Connection) -> None:
        """Sweep for as long as this connection, and with it the lock, lives."""
        # Autocommit: the lock belongs to the session, and a transaction left open would hold back vacuum.
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        if not connection.scalar(TRY_LOCK, LOCK):
            return
        connection.execute(GIVE_UP_LOCK, {"milliseconds": str(round(self._settings.sweeper_seconds * 1000))})
        logger.info("sweeper.leads")
        try:
            while not self._ended.is_set():
                connection.execute(text("SELECT 1"))  # raises where the session, and the lock with it, is gone
                self.sweep()
                self._ended.wait(self._settings.sweep_seconds)
        finally:
            connection.invalidate()  # a pooled connection would keep the lock past this block

    def sweep(self) -> Swept:
        """Look once at everything."""
        # One connection for all: taking one from the pool, which asks whether it lives, costs as much as a statement.
        with self._engine.connect() as connection:
            with connection.begin():  # first: the rest waits for locks
                stranded = database.end_stranded(connection, timedelta(seconds=self._settings.lease_seconds))
            if stranded:
                logger.warning("sweeper.ended_sessions", sessions=stranded)
            with Session(connection) as session, session.begin():
                rescued = jobs.rescue(session, limit=AT_ONCE, max_strikes=self._settings.max_strikes)
            with Session(connection) as session, session.begin():
                decisions.tend(session, limit=AT_ONCE)  # undo windows that have passed, review leases that have lapsed
            with Session(connection) as session, session.begin():
                older = timedelta(seconds=self._settings.announce_again_seconds)
                waiting = jobs.unannounced(session, limit=AT_ONCE, older_than=older)
                sendable = deliveries.any_due(session, deliveries.Limits.of(self._settings))
        rung = self._ring(len(waiting), sendable=sendable)
        if rescued or waiting:
            logger.info("sweeper.swept", rescued=rescued, waiting=len(waiting), rung=rung)
        if time.monotonic() >= self._next_daily:
            self._daily()
            self._next_daily = time.monotonic() + DAILY
        return Swept(rescued, rung)

    def _ring(self, waiting: int, *, sendable: bool) -> int:
        bells: list[Callable[[], bool]] = []
        if waiting:
            unheard = self._doorbell.waiting(Queue.SCREENINGS)
            bells += [self._doorbell.ring_screening] * min(waiting, MOST_BELLS - unheard)
        if sendable and self._doorbell.waiting(Queue.DELIVERIES) < MOST_BELLS:
            bells.append(self._doorbell.ring_deliveries)
        rung = 0
        for bell in bells:
            if not bell():
                break  # Redis is away; each further try would only wait for its timeout
            rung += 1
        return rung

    def _daily(self) -> None:
        with Session(self._engine) as session, session.begin():
            session.execute(EXPIRE_IDEMPOTENCY, {"hours": self._settings.idempotency_hours})
            due = retention.due(session)
        if due:
            self._doorbell.ring_purge()
        self._looks += 1
        if self._looks % BLOB_SWEEP == 1:
            self._doorbell.ring_blob_sweep()
