"""How a process reaches PostgreSQL: it loses its locks when it stands still, and keeps the options of its address."""

import time
from contextlib import closing
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from screening.database import async_engine, cause, end_stranded, sync_engine
from screening.embedded.process import free_port
from screening.tables import Platform
from tests import clock
from tests.running_line import wait_for


def test_a_session_that_idles_in_a_transaction_loses_its_locks(
    database_url: str, sessions: sessionmaker[Session], platform: Platform
) -> None:
    locked = text("SELECT id FROM platforms FOR UPDATE SKIP LOCKED")
    stopped = sync_engine(database_url, idle_seconds=1)
    with stopped.connect() as connection:
        assert len(connection.execute(locked).all()) == 1
        with sessions.begin() as session:
            assert session.execute(locked).all() == []
        deadline = time.monotonic() + 20
        free: list[object] = []
        while not free:
            assert time.monotonic() < deadline, "the rows stayed locked"
            with sessions.begin() as session:
                free = list(session.execute(locked))
        connection.invalidate()
    stopped.dispose()


SETTINGS = text(
    "SELECT current_setting('assay.clock_offset'), current_setting('idle_in_transaction_session_timeout'),"
    " assay_now() - now()"
)


def test_the_options_of_the_address_hold_in_sessions_that_lose_their_locks(database_url: str) -> None:
    engine = sync_engine(clock.later(database_url, timedelta(days=3)), idle_seconds=7)
    with engine.connect() as connection:
        assert tuple(connection.execute(SETTINGS).one()) == ("259200.000000s", "7s", timedelta(days=3))
    engine.dispose()


async def test_the_options_of_the_address_hold_in_asynchronous_sessions(database_url: str) -> None:
    engine = async_engine(clock.later(database_url, timedelta(days=3)), idle_seconds=7)
    async with engine.connect() as connection:
        assert tuple((await connection.execute(SETTINGS)).one()) == ("259200.000000s", "7s", timedelta(days=3))
    await engine.dispose()


def test_a_session_that_stands_still_within_a_command_is_ended_and_no_other(
    database_url: str, engine: Engine, platform: Platform
) -> None:
    """As `executemany` does it: no timeout of PostgreSQL's runs before the message that ends the command has come."""

    def connect(application: str) -> psycopg.Connection[tuple[object, ...]]:
        idle = "-c idle_in_transaction_session_timeout=100"
        return psycopg.connect(database_url, autocommit=True, application_name=application, options=idle)

    def send_half(connection: psycopg.Connection[tuple[object, ...]], statement: bytes) -> None:
        connection.pgconn.enter_pipeline_mode()
        for part in (b"BEGIN", statement):
            connection.pgconn.send_query_params(part, None)
        connection.pgconn.send_flush_request()
        connection.pgconn.flush()

    def free() -> bool:
        with engine.begin() as ours:
            return bool(ours.execute(text("SELECT id FROM platforms FOR UPDATE SKIP LOCKED")).all())

    def end(seconds: float) -> int:
        with engine.begin() as ours:
            return end_stranded(ours, timedelta(seconds=seconds))

    sessions = (connect(name) for name in ("assay", "assay", "psql"))
    with closing(next(sessions)) as stopped, closing(next(sessions)) as waiting, closing(next(sessions)) as foreign:
        waiting.execute("SELECT 1")
        send_half(foreign, b"SELECT 1")
        send_half(stopped, b"SELECT id FROM platforms FOR UPDATE")
        wait_for("the rows are locked", lambda: not free())
        assert end(3600) == 0
        wait_for("the session is ended", lambda: end(0.5) == 1)
        wait_for("the rows are free", free)
        assert end(0.5) == 0
        assert waiting.execute("SELECT 1").fetchone() == (1,)


def test_the_log_hears_why_a_database_does_not_answer_and_no_value_of_a_statement(engine: Engine) -> None:
    with pytest.raises(DBAPIError) as refused, engine.connect() as connection:
        connection.execute(text("SELECT CAST(:secret AS uuid)"), {"secret": "not-a-uuid"})
    assert cause(refused.value) == "DataError"
    away = sync_engine(f"postgresql://u:hidden@127.0.0.1:{free_port()}/x")
    with pytest.raises(OperationalError) as failed:
        away.connect()
    assert "refused" in cause(failed.value)
    assert "hidden" not in cause(failed.value)
