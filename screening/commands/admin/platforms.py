"""Platforms: who sends images, how much, and what share is theirs."""

import click
from rich.table import Table
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from screening import audit, platforms
from screening.commands.admin.group import admin, console, platform_named, transaction
from screening.ids import Prefix, encode
from screening.tables import Platform, Screening, State


@admin.command("create-platform")
@click.argument("name")
@click.option("--weight", type=click.IntRange(1, 1000), default=1, show_default=True, help="Its share of each batch.")
def create_platform(name: str, weight: int) -> None:
    """Create a platform and print its id."""
    if not name.strip() or len(name) > 200:
        raise click.BadParameter("A name has 1 to 200 characters.", param_hint="NAME")
    try:
        with transaction() as session:
            platform = platforms.create(session, name.strip(), weight=weight)
            public_id = encode(Prefix.PLATFORM, platform.id)
            audit.append(session, actor="operator", action="platform.created", subject=public_id)
    except IntegrityError as error:
        raise click.ClickException(f"There is a platform {name!r} already.") from error
    click.echo(public_id)


@admin.command("list-platforms")
def list_platforms() -> None:
    """List platforms with their limits and what waits."""
    waiting = (
        select(func.count())
        .where(Screening.platform_id == Platform.id, Screening.state == State.QUEUED)
        .scalar_subquery()
    )
    table = Table("id", "name", "weight", "rate/s", "burst", "max queued", "retention (days)", "waiting", box=None)
    with transaction() as session:
        for row, count in session.execute(select(Platform, waiting).order_by(Platform.name)):
            limits = (row.weight, row.rate_per_second, row.burst, row.max_queued, row.retention_days, count)
            table.add_row(encode(Prefix.PLATFORM, row.id), row.name, *("-" if v is None else str(v) for v in limits))
    console.print(table)


@admin.command("set-quota")
@click.argument("platform")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Requests a second.")
@click.option("--burst", type=click.IntRange(1), help="Requests at once.")
@click.option("--max-queued", type=click.IntRange(0), help="Screenings that may wait.")
@click.option("--weight", type=click.IntRange(1, 1000), help="Its share of each claimed batch.")
@click.option("--default", "cleared", multiple=True, type=click.Choice(["rate", "burst", "max-queued"]),
              help="Back to the operator's default.")  # fmt: skip
def set_quota(
    platform: str,
    rate: float | None,
    burst: int | None,
    max_queued: int | None,
    weight: int | None,
    cleared: tuple[str, ...],
) -> None:
    """Set a platform's limits and share; what is not given stays."""
    given = {"rate_per_second": rate, "burst": burst, "max_queued": max_queued, "weight": weight}
    values: dict[str, float | int | None] = {name: value for name, value in given.items() if value is not None}
    values |= {{"rate": "rate_per_second"}.get(name, name.replace("-", "_")): None for name in cleared}
    if not values:
        raise click.UsageError("Nothing to set.")
    with transaction() as session:
        row = platform_named(session, platform)
        for name, value in values.items():
            setattr(row, name, value)
        subject = encode(Prefix.PLATFORM, row.id)
        audit.append(session, actor="operator", action="platform.limits_set", subject=subject, details=dict(values))


@admin.command("allow-bucket")
@click.argument("platform")
@click.argument("bucket")
@click.option("--remove", is_flag=True, help="Close it again.")
def allow_bucket(platform: str, bucket: str, remove: bool) -> None:
    """Let a platform name objects of a bucket as sources."""
    with transaction() as session:
        row = platform_named(session, platform)
        row.buckets = sorted(set(row.buckets) - {bucket} if remove else {*row.buckets, bucket})
        subject = encode(Prefix.PLATFORM, row.id)
        audit.append(
            session, actor="operator", action="platform.buckets_set", subject=subject, details={"buckets": row.buckets}
        )
