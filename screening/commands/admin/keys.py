"""Keys: how a platform proves who it is. Two may live at a time, so that a rotation needs no pause."""

import click
from rich.table import Table
from sqlalchemy import select

from screening import api_keys, audit
from screening.api_keys import Scope
from screening.commands.admin.group import admin, console, id_of, platform_named, transaction
from screening.document import timestamp
from screening.ids import Prefix, encode
from screening.tables import ApiKey


@admin.command("create-key")
@click.argument("platform")
@click.option("--scope", "scopes", multiple=True, type=click.Choice([s.value for s in Scope]),
              default=(Scope.READ.value, Scope.WRITE.value), show_default=True)  # fmt: skip
def create_key(platform: str, scopes: tuple[str, ...]) -> None:
    """Create a key and print it; it is not shown again."""
    with transaction() as session:
        row = platform_named(session, platform)
        key = api_keys.create(session, row.id, frozenset(Scope(s) for s in scopes))
        subject = encode(Prefix.PLATFORM, row.id)
        details = {"hint": key[-4:], "scopes": sorted(scopes)}
        audit.append(session, actor="operator", action="key.created", subject=subject, details=details)
    click.echo(key)


@admin.command("list-keys")
@click.argument("platform")
def list_keys(platform: str) -> None:
    """List a platform's keys by their last four characters."""
    table = Table("id", "ends in", "scopes", "created", "last used", "revoked", box=None)
    with transaction() as session:
        mine = select(ApiKey).where(ApiKey.platform_id == platform_named(session, platform).id)
        for row in session.scalars(mine.order_by(ApiKey.created_at)):
            times = (timestamp(t) or "-" for t in (row.created_at, row.last_used_at, row.revoked_at))
            table.add_row(encode(Prefix.API_KEY, row.id), row.hint, " ".join(row.scopes), *times)
    console.print(table)


@admin.command("revoke-key")
@click.argument("key_id")
def revoke_key(key_id: str) -> None:
    """End a key at once."""
    with transaction() as session:
        if not api_keys.revoke(session, id_of(Prefix.API_KEY, key_id)):
            raise click.ClickException(f"There is no live key {key_id}: `assay admin list-keys` names them.")
        audit.append(session, actor="operator", action="key.revoked", subject=key_id)
