"""The schema: brought up to this code's, once, however many containers start at the same time."""

import click
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from screening import migrate as migrations
from screening.commands.admin.group import admin
from screening.database import sync_engine
from screening.settings import settings

LOCK = "SELECT pg_advisory_xact_lock(1095979841, 3)"


@admin.command("migrate")
def migrate() -> None:
    """Bring the database's schema up to this release."""
    engine = sync_engine(settings().database_url, pool_size=1)
    try:
        with engine.begin() as connection:
            connection.execute(text(LOCK))
            migrations.upgrade(connection)
    except OperationalError as error:
        raise click.ClickException("The database of ASSAY_DATABASE_URL does not answer.") from error
    finally:
        engine.dispose()
    click.echo("The schema is current.")
