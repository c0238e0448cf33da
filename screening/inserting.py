"""How do many rows of one table get in with one statement of one text, however many they are?

As JSON that PostgreSQL reads by the table's own types. `executemany` would send a message a row, and a worker that is
stopped between two of them keeps its locks; an INSERT with a VALUES list is another text for every count.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from screening.tables.base import Base


def insert(session: Session, table: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that all name the same columns; what they do not name gets the database's default."""
    if rows:
        session.execute(_statement(table.__tablename__, tuple(rows[0])), {"rows": as_json(rows)})


@lru_cache(maxsize=64)
def _statement(table: str, columns: tuple[str, ...]) -> TextClause:
    names = ", ".join(columns)
    read = f"jsonb_populate_recordset(NULL::{table}, CAST(:rows AS jsonb))"
    return text(f"INSERT INTO {table} ({names}) SELECT {names} FROM {read}")  # noqa: S608 - names from the code alone


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as `jsonb_populate_recordset` and `jsonb_to_recordset` read them."""
    return json.dumps(list(rows), default=_as_text)


def _as_text(value: Any) -> str:
    """A value as PostgreSQL reads it in a text."""
    match value:
        case UUID():
            return str(value)
        case bytes():
            return f"\\x{value.hex()}"
        case datetime():
            return value.isoformat()
        case timedelta():
            return f"{value / timedelta(seconds=1)} seconds"
    raise TypeError(f"no column holds a {type(value).__name__}")
