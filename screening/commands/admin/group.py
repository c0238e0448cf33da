"""What do all admin commands share? The database of ASSAY_DATABASE_URL, a platform by name, errors as one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import click
from rich.console import Console
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from screening import platforms
from screening.database import sync_engine
from screening.errors import AssayError
from screening.ids import Prefix, decode
from screening.settings import settings
from screening.tables import Platform

console = Console(highlight=False, soft_wrap=True)


@click.group()
def admin() -> None:
    """Platforms, keys, reviewers, endpoints, retention, and verification of the evidence."""


@contextmanager
def transaction() -> Iterator[Session]:
    """One transaction, committed at the end of the block; what goes wrong is said in a sentence, with status 1."""
    engine = sync_engine(settings().database_url, pool_size=1)
    try:
        with Session(engine) as session, session.begin():
            yield session
    except AssayError as error:
        raise click.ClickException(str(error)) from error
    except OperationalError as error:
        raise click.ClickException("The database of ASSAY_DATABASE_URL does not answer.") from error
    finally:
        engine.dispose()


def platform_named(session: Session, name: str) -> Platform:
    """The platform of this name or id."""
    id = decode(Prefix.PLATFORM, name)
    found = platforms.by_name(session, name) if id is None else platforms.find(session, id)
    if found is None:
        raise click.ClickException(f"There is no platform {name!r}: `assay admin list-platforms` names them.")
    return found


def id_of(prefix: Prefix, text: str) -> UUID:
    """The UUID of an id as users see it."""
    found = decode(prefix, text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no id of the form {prefix}_<32 hex digits>.")
    return found
