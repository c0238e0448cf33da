"""How does Alembic reach the database? Through a connection that is handed in, or ASSAY_DATABASE_URL."""

from alembic import context
from sqlalchemy import Connection

from screening.database import sync_engine
from screening.settings import settings
from screening.tables import Base


def _run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=False)
    with context.begin_transaction():
        context.run_migrations()


def run() -> None:
    """Migrate on the given connection, or on one of our own."""
    given = context.config.attributes.get("connection")
    if given is not None:
        _run(given)
        return
    engine = sync_engine(settings().database_url)
    with engine.connect() as connection:
        _run(connection)
    engine.dispose()


run()
