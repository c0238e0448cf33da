"""A process that stands still does not keep others from its rows."""

import time

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from screening.database import sync_engine
from screening.tables import Platform


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
