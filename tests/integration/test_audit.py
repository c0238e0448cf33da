"""The audit chain takes no change, and shows the first one that was forced on it."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from screening import audit
from screening.tables import Platform

Sessions = sessionmaker[Session]


def append(sessions: Sessions, platform: Platform, count: int) -> None:
    for number in range(count):
        with sessions.begin() as session:
            audit.append(
                session, actor="operator", action="test.act", subject=f"thing_{number}", platform_id=platform.id,
                details={"number": number, "share": 0.1, "text": "ärger"},
            )  # fmt: skip


def verify(sessions: Sessions) -> audit.Verification:
    with sessions() as session:
        return audit.verify(session)


def force(engine: Engine, statement: str) -> None:
    """Alter rows as a database superuser could: triggers off."""
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text(statement))


def test_writers_at_once_make_one_chain(sessions: Sessions, platform: Platform) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: append(sessions, platform, 10), range(4)))
    found = verify(sessions)
    assert (found.entries, found.broken_at) == (40, None)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_entries SET actor = 'somebody'", "DELETE FROM audit_entries", "TRUNCATE audit_entries"],
)
def test_the_database_refuses_to_change_an_entry(
    sessions: Sessions, platform: Platform, engine: Engine, statement: str
) -> None:
    append(sessions, platform, 2)
    with pytest.raises(IntegrityError, match="append-only"), engine.begin() as connection:
        connection.execute(text(statement))
    assert verify(sessions).entries == 2


@pytest.mark.parametrize(
    ("change", "broken_at"),
    [
        ("UPDATE audit_entries SET details = replace(details, 'ärger', 'lob') WHERE sequence = 3", 3),
        ("UPDATE audit_entries SET actor = 'nobody' WHERE sequence = 2", 2),
        ("UPDATE audit_entries SET at = at + interval '1 microsecond' WHERE sequence = 4", 4),
        ("UPDATE audit_entries SET platform_id = NULL WHERE sequence = 1", 1),
        ("DELETE FROM audit_entries WHERE sequence = 2", 2),
        ("UPDATE audit_entries SET previous_hash = hash WHERE sequence = 5", 5),
    ],
)
def test_verification_names_the_first_altered_entry(
    sessions: Sessions, platform: Platform, engine: Engine, change: str, broken_at: int
) -> None:
    append(sessions, platform, 5)
    assert verify(sessions).broken_at is None
    force(engine, change)
    assert verify(sessions).broken_at == broken_at
