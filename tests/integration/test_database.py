"""How a process reaches PostgreSQL: it loses its locks when it stands still, and keeps the options of its address."""

import time
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from screening.database import async_engine, sync_engine
from screening.tables import Platform
from tests import clock


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
