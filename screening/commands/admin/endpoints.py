"""Endpoints: where platforms listen, and what became of what was sent there."""

from collections import Counter
from uuid import UUID

import click
from rich.table import Table
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from screening import audit, endpoints, outbound
from screening.addresses import parse_ranges
from screening.commands.admin.group import admin, console, id_of, platform_named, transaction
from screening.document import timestamp
from screening.event_types import EventType
from screening.ids import Prefix, encode
from screening.settings import settings
from screening.tables import Delivery, Endpoint
from screening.webhook_secrets import SecretBox


@admin.command("create-endpoint")
@click.argument("platform")
@click.argument("url")
@click.option(
    "--type", "types", multiple=True, type=click.Choice([t.value for t in EventType]), help="Without any, all."
)
@click.option("--ordered", is_flag=True, help="One at a time, in order.")
def create_endpoint(platform: str, url: str, types: tuple[str, ...], ordered: bool) -> None:
    """Have a platform's events sent to a URL; prints the id and the secret, which is not shown again."""
    with transaction() as session:
        chosen = settings()
        outbound.check_url(url, parse_ranges(chosen.allowed_ranges) + parse_ranges(chosen.webhook_allowed_ranges))
        row, secret = endpoints.create(
            session,
            SecretBox(chosen.keys),
            platform_named(session, platform).id,
            url,
            types=types,
            ordered=ordered,
            most=chosen.webhook_endpoints_max,
        )
        public_id = encode(Prefix.ENDPOINT, row.id)
        audit.append(
            session, actor="operator", action="endpoint.created", subject=public_id, platform_id=row.platform_id
        )
    click.echo(f"{public_id} {secret}")


@admin.command("list-endpoints")
@click.argument("platform")
def list_endpoints(platform: str) -> None:
    """List a platform's endpoints, their health and their deliveries by state."""
    table = Table("id", "url", "enabled", "failing since", "pending", "delivered", "dead", box=None)
    with transaction() as session:
        for row in endpoints.of_platform(session, platform_named(session, platform).id):
            enabled = "yes" if row.enabled else f"no: {row.disabled_reason}"
            counts = _counts(session, row.id)
            numbers = (str(counts[state]) for state in ("pending", "delivered", "dead"))
            failing = timestamp(row.failing_since) or "-"
            table.add_row(encode(Prefix.ENDPOINT, row.id), row.url, enabled, failing, *numbers)
    console.print(table)


def _counts(session: Session, endpoint_id: UUID) -> Counter[str]:
    statement = select(Delivery.state, func.count()).where(Delivery.endpoint_id == endpoint_id).group_by(Delivery.state)
    return Counter({row[0]: row[1] for row in session.execute(statement)})


@admin.command("enable-endpoint")
@click.argument("endpoint_id")
def enable_endpoint(endpoint_id: str) -> None:
    """Start sending again; what waited is sent."""
    with transaction() as session:
        row = session.get(Endpoint, id_of(Prefix.ENDPOINT, endpoint_id))
        if row is None:
            raise click.ClickException(f"There is no endpoint {endpoint_id}.")
        endpoints.enable(session, row)
        audit.append(
            session, actor="operator", action="endpoint.enabled", subject=endpoint_id, platform_id=row.platform_id
        )


@admin.command("reencrypt-secrets")
def reencrypt_secrets() -> None:
    """Encrypt every webhook secret with the first key of ASSAY_SECRET_KEYS, after which the others may be dropped."""
    with transaction() as session:
        box = SecretBox(settings().keys)
        # Endpoints that are made or rotated meanwhile use the first key anyway; they only have to wait.
        session.execute(text("LOCK TABLE endpoints IN SHARE ROW EXCLUSIVE MODE"))
        rows = session.scalars(select(Endpoint)).all()
        for row in rows:
            row.secret = box.reseal(row.secret)
            row.previous_secret = None if row.previous_secret is None else box.reseal(row.previous_secret)
    click.echo(f"{len(rows)} endpoints")
