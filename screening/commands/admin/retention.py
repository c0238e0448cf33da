"""Retention, legal hold and erasure, from the operator's side."""

import click

from screening import audit, jobs
from screening.blobs import open_store, screening_prefix
from screening.broker import Doorbell
from screening.commands.admin.group import admin, id_of, platform_named, transaction
from screening.errors import BlobStoreError
from screening.ids import Prefix, encode
from screening.settings import settings
from screening.tables import Screening


@admin.command("set-retention")
@click.argument("platform")
@click.argument("days", type=click.IntRange(1))
def set_retention(platform: str, days: int) -> None:
    """Erase a platform's screenings this many days after they were sent."""
    _set(platform, days)


@admin.command("clear-retention")
@click.argument("platform")
def clear_retention(platform: str) -> None:
    """Keep a platform's screenings until somebody erases them."""
    _set(platform, None)


def _set(platform: str, days: int | None) -> None:
    with transaction() as session:
        row = platform_named(session, platform)
        row.retention_days = days
        subject = encode(Prefix.PLATFORM, row.id)
        audit.append(
            session, actor="operator", action="platform.retention_set", subject=subject, details={"days": days}
        )


@admin.command("hold")
@click.argument("screening_id")
@click.option("--lift", is_flag=True, help="Lift the hold.")
def hold(screening_id: str, lift: bool) -> None:
    """Put a screening under legal hold: nothing erases it until the hold is lifted."""
    with transaction() as session:
        row = session.get(Screening, id_of(Prefix.SCREENING, screening_id))
        if row is None or row.erased_at is not None:
            raise click.ClickException(f"There is no screening {screening_id}, or it was erased.")
        jobs.hold(session, row.id, held=not lift)
        action = "screening.hold_lifted" if lift else "screening.held"
        audit.append(session, actor="operator", action=action, subject=screening_id, platform_id=row.platform_id)


@admin.command("erase")
@click.argument("screening_id")
@click.confirmation_option(prompt="Erase the image and everything derived from it?")
def erase(screening_id: str) -> None:
    """Erase one screening's bytes and derived files; an audit stub stays."""
    with transaction() as session:
        row = session.get(Screening, id_of(Prefix.SCREENING, screening_id))
        if row is None:
            raise click.ClickException(f"There is no screening {screening_id}.")
        jobs.erase(session, row)
        audit.append(
            session, actor="operator", action="screening.erased", subject=screening_id, platform_id=row.platform_id
        )
        prefix = screening_prefix(row.platform_id, row.id)
    store = open_store(settings().blob_url, settings().s3_endpoint_url)
    try:
        store.delete(store.keys(prefix))
    except BlobStoreError as error:
        raise click.ClickException(f"It is erased, and its bytes will be removed by the workers: {error}") from error


@admin.command("purge")
@click.option("--orphans", is_flag=True, help="Also look for blobs that belong to no screening.")
def purge(orphans: bool) -> None:
    """Have the io workers erase what is past its retention now, instead of within the hour."""
    bell = Doorbell(settings().redis_url)
    if not (bell.ring_purge() and (not orphans or bell.ring_blob_sweep())):
        raise click.ClickException("Redis does not take the message; the sweeper tries within the hour.")
