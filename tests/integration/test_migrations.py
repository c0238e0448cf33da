"""The schema goes up, down and up again, and is what the tables say."""

from sqlalchemy import inspect

from screening import migrate
from screening.database import sync_engine
from screening.embedded import EmbeddedPostgres


def test_migrations_run_up_down_and_up_again_and_match_the_tables(postgres: EmbeddedPostgres) -> None:
    engine = sync_engine(postgres.create_database("migrations"))
    with engine.begin() as connection:
        assert not migrate.is_current(connection)
        migrate.upgrade(connection)
        assert migrate.is_current(connection)
        migrate.check(connection)
    with engine.begin() as connection:
        migrate.downgrade(connection, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    with engine.begin() as connection:
        migrate.upgrade(connection)
        migrate.check(connection)
    engine.dispose()
