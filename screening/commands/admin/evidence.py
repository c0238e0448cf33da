"""Evidence: is the audit chain whole, and is a pack what it claims to be?"""

from pathlib import Path

import click

from screening import audit, evidence
from screening.commands.admin.group import admin, transaction


@admin.command("verify-audit")
@click.option("--expect-head", default=None, help="The newest hash as you noted it; finds a chain that was cut short.")
def verify_audit(expect_head: str | None) -> None:
    """Read the whole audit chain; names the first altered entry, with status 1."""
    with transaction() as session:
        found = audit.verify(session)
        known = expect_head is None or audit.knows(session, expect_head)
    if found.broken_at is not None:
        raise click.ClickException(f"Entry {found.broken_at}: {found.why}. The {found.entries} before it are whole.")
    if not known:
        raise click.ClickException(f"No entry has the hash {expect_head}: the chain was cut short or written anew.")
    click.echo(f"{found.entries} entries are whole. Newest hash: {found.head.hex()}")


@admin.command("verify-evidence")
@click.argument("pack", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def verify_evidence(pack: Path) -> None:
    """Check an evidence pack, offline; names what is wrong, with status 1."""
    flaws = evidence.verify(pack)
    if flaws:
        raise click.ClickException("\n".join(flaws))
    click.echo(f"{pack} is whole.")
