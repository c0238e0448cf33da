"""What do all tables share? One metadata with named constraints, and a clock that tests can move."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, MetaData, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql import functions

# Without names, Alembic could not drop what it created.
NAMING = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Every table's base."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a class attribute
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[dict[str, Any]]: JSONB,
        UUID: PG_UUID(as_uuid=True),
        str: Text,
    }


class assay_now(functions.GenericFunction[datetime]):  # noqa: N801 - the SQL function's own name
    """The transaction's time as SQL reads it, everywhere and only through this function.

    `assay_now()` is `now()` plus the session setting `assay.clock_offset`, which only tests set: five days of webhook
    retries pass in milliseconds without a mocked clock.
    """

    type = DateTime(timezone=True)
    inherit_cache = True
