"""Reviewers: who decides, and for which platforms."""

import secrets
import sys

import click
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.orm import Session

from screening import policies, reviewers
from screening.actors import Role
from screening.commands.admin.group import admin, console, platform_named, transaction
from screening.document import timestamp
from screening.tables import Reviewer

PASSWORD_HELP = "Read the password from standard input; without it a random one is made and printed."  # noqa: S105


def _named(session: Session, email: str) -> Reviewer:
    found = reviewers.by_email(session, email)
    if found is None:
        raise click.ClickException(f"There is no reviewer {email!r}: `assay admin list-reviewers` names them.")
    return found


def _password(*, from_stdin: bool) -> str:
    if not from_stdin:
        return secrets.token_urlsafe(15)
    return sys.stdin.readline().rstrip("\r\n")


@admin.command("create-reviewer")
@click.argument("email")
@click.option("--name", default=None, help="How colleagues know them; the address without one.")
@click.option("--password-stdin", is_flag=True, help=PASSWORD_HELP)
@click.option("--no-password", is_flag=True, help="Sign-in through the identity provider alone.")
def create_reviewer(email: str, name: str | None, password_stdin: bool, no_password: bool) -> None:
    """Create a reviewer, who may do nothing until granted a role."""
    password = None if no_password else _password(from_stdin=password_stdin)
    with transaction() as session:
        reviewers.create(session, email, name or email, password)
    if password is not None and not password_stdin:
        click.echo(password)


@admin.command("set-password")
@click.argument("email")
@click.option("--password-stdin", is_flag=True, help=PASSWORD_HELP)
def set_password(email: str, password_stdin: bool) -> None:
    """Replace a reviewer's password; every session of theirs ends."""
    password = _password(from_stdin=password_stdin)
    with transaction() as session:
        hashed = reviewers.hash_password(password)
        reviewers.set_password(session, _named(session, email), hashed, actor="operator")
    if not password_stdin:
        click.echo(password)


@admin.command("disable-reviewer")
@click.argument("email")
def disable_reviewer(email: str) -> None:
    """Shut a reviewer out at once; what they decided stays."""
    with transaction() as session:
        reviewers.disable(session, _named(session, email), disabled=True)


@admin.command("enable-reviewer")
@click.argument("email")
def enable_reviewer(email: str) -> None:
    """Let a disabled reviewer in again."""
    with transaction() as session:
        reviewers.disable(session, _named(session, email), disabled=False)


@admin.command("grant")
@click.argument("email")
@click.argument("platform")
@click.argument("role", type=click.Choice([role.value for role in Role]))
def grant(email: str, platform: str, role: str) -> None:
    """Give a reviewer a role on a platform, in place of any other there."""
    with transaction() as session:
        reviewers.grant(session, _named(session, email), platform_named(session, platform).id, Role(role))


@admin.command("revoke-grant")
@click.argument("email")
@click.argument("platform")
def revoke_grant(email: str, platform: str) -> None:
    """Take a reviewer's role on a platform away: nothing of it exists for them any more."""
    with transaction() as session:
        if not reviewers.revoke(session, _named(session, email), platform_named(session, platform).id):
            raise click.ClickException(f"{email} has no role on {platform}.")


@admin.command("list-reviewers")
def list_reviewers() -> None:
    """List reviewers with their roles."""
    table = Table("e-mail", "name", "roles", "since", "disabled", box=None)
    with transaction() as session:
        for row in session.scalars(select(Reviewer).order_by(Reviewer.email)):
            roles = ", ".join(f"{g.role} of {g.platform.name}" for g in reviewers.granted(session, row.id))
            table.add_row(
                row.email, row.name, roles or "-", timestamp(row.created_at), timestamp(row.disabled_at) or "-"
            )
    console.print(table)


@admin.command("kill-switch")
@click.argument("state", type=click.Choice(["on", "off"]))
@click.option("--platform", default=None, help="Only this platform; without it, every one.")
@click.option("--reason", default=None)
def kill_switch(state: str, platform: str | None, reason: str | None) -> None:
    """Turn every further `block` into a review, at once, or stop doing so."""
    with transaction() as session:
        scope = policies.EVERY_PLATFORM if platform is None else platform_named(session, platform).id
        policies.switch_blocks(session, scope, suspended=state == "on", actor="operator", reason=reason)
