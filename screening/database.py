"""How does a process reach PostgreSQL? One driver (psycopg 3), sync in workers, async in the API."""

from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

# A worker behind a dead server must find out within seconds; TCP alone would take minutes.
KEEPALIVE = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "application_name": "assay",
}


# Between two messages of one command a session is `active` and waits for its client, and none of PostgreSQL's timeouts
# runs: psycopg sends `executemany` row by row, libpq a long statement in parts. Each message renews `state_change`.
END_STRANDED = text("""
SELECT pg_terminate_backend(pid)
  FROM pg_stat_activity
 WHERE datname = current_database() AND usename = current_user AND application_name = :application
   AND state = 'active' AND wait_event_type = 'Client' AND xact_start IS NOT NULL
   AND state_change < clock_timestamp() - CAST(:older_than AS interval)
""")


def psycopg_url(database_url: str) -> str:
    """The address with the driver named, as SQLAlchemy wants it."""
    return make_url(database_url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def _engine_arguments(database_url: str, pool_size: int, idle_seconds: float | None) -> dict[str, Any]:
    """What both kinds of engine are made with.

    A process that is stopped in the middle of a transaction keeps its row locks, and its kernel goes on answering
    keepalives: everybody would skip those rows for as long as it stands still. With `idle_seconds` the server ends a
    session that idles so long inside a transaction.
    """
    arguments: dict[str, object] = dict(KEEPALIVE)
    if idle_seconds is not None:
        # What is given here replaces the address's own `options`, so those are said again; theirs come last, and win.
        theirs = make_url(database_url).normalized_query.get("options", ())
        ours = f"-c idle_in_transaction_session_timeout={max(1, round(idle_seconds * 1000))}"
        arguments["options"] = " ".join((ours, *theirs))
    return {"pool_size": pool_size, "pool_pre_ping": True, "connect_args": arguments}


def sync_engine(database_url: str, pool_size: int = 5, idle_seconds: float | None = None) -> Engine:
    """An engine for workers and commands. Raises SQLAlchemy's OperationalError on use where the server is away."""
    arguments = _engine_arguments(database_url, pool_size, idle_seconds)
    return create_engine(psycopg_url(database_url), max_overflow=5, **arguments)


def async_engine(database_url: str, pool_size: int = 10, idle_seconds: float | None = 60.0) -> AsyncEngine:
    """An engine for the API and the senders; kernel functions run on it through `AsyncSession.run_sync`."""
    arguments = _engine_arguments(database_url, pool_size, idle_seconds)
    return create_async_engine(psycopg_url(database_url), max_overflow=10, **arguments)


def cause(error: SQLAlchemyError) -> str:
    """Why the database did not answer, in one line for the log; of other errors, which may quote values, the name."""
    said = str(error.orig) if isinstance(error, OperationalError) else type(error).__name__
    return said.partition("\n")[0]


def end_stranded(connection: Connection, older_than: timedelta) -> int:
    """End our sessions whose process stands still in the middle of a command, and with them their locks; how many.

    The other half of what `idle_seconds` does: it ends sessions that stand still between commands.
    """
    names = {"application": KEEPALIVE["application_name"], "older_than": older_than}
    return len(connection.execute(END_STRANDED, names).all())
