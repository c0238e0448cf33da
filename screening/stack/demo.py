"""What does a newcomer need to try everything? A platform with a key, a listening endpoint, a reviewer: made once."""

import json
import secrets
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from sqlalchemy.orm import Session, sessionmaker

from screening import api_keys, endpoints, platforms, reviewers
from screening.actors import Role
from screening.api_keys import Scope
from screening.embedded.process import free_port, listening
from screening.errors import AssayError
from screening.stack.home import Home, write_private
from screening.webhook_secrets import SecretBox

PLATFORM = "demo"
EMAIL = "reviewer@demo.example"
NAME = "Demo reviewer"
NEW_START = "Start with a new --data-dir, or with --no-demo and make a key with `assay admin create-key`."
SCOPES = frozenset({Scope.READ, Scope.WRITE, Scope.REVIEW, Scope.ADMIN})


class DemoCredentialsLostError(AssayError):
    """The demo exists in the database, but its credentials are not in the data directory."""


@dataclass(slots=True)
class Credentials:
    """The content of `demo.json`. Names are fixed: clients and checks read them."""

    url: str
    api_key: str
    webhook_secret: str
    reviewer_email: str
    reviewer_password: str


def credentials(home: Home, sessions: sessionmaker[Session], box: SecretBox, url: str) -> Credentials:
    """The demo's credentials, kept over restarts; only the address may change."""
    known = _known(home)
    if known is not None:
        made = known
        made.url = url
    else:
        with sessions.begin() as session:
            made = _new(session, home, box, url)
    write_private(home.demo, asdict(made))
    return made


def _known(home: Home) -> Credentials | None:
    """What an earlier start wrote. Raises DemoCredentialsLostError where that cannot be read any more."""
    if not home.demo.exists():
        return None
    try:
        return Credentials(**json.loads(home.demo.read_text()))
    except (ValueError, TypeError) as error:
        raise DemoCredentialsLostError(f"{home.demo} is not what an earlier start wrote. {NEW_START}") from error


def _new(session: Session, home: Home, box: SecretBox, url: str) -> Credentials:
    if platforms.by_name(session, PLATFORM) is not None:
        raise DemoCredentialsLostError(
            f"The demo's credentials, {home.demo}, are gone, and a key is shown only once. {NEW_START}"
        )
    platform = platforms.create(session, PLATFORM)
    key = api_keys.create(session, platform.id, SCOPES)
    password = secrets.token_urlsafe(12)
    reviewer = reviewers.create(session, EMAIL, NAME, password)
    reviewers.grant(session, reviewer, platform.id, Role.ADMIN)
    address = f"http://127.0.0.1:{free_port()}/"
    _, secret = endpoints.create(session, box, platform.id, address, description="The demo's own receiver")
    return Credentials(url, key, secret, EMAIL, password)


def receiver_port(sessions: sessionmaker[Session]) -> int | None:
    """The port of the demo's receiver; another one is chosen, and the endpoint moved, if somebody has taken it."""
    with sessions.begin() as session:
        platform = platforms.by_name(session, PLATFORM)
        rows = [] if platform is None else endpoints.of_platform(session, platform.id)
        mine = [row for row in rows if row.description == "The demo's own receiver"]
        if not mine:
            return None
        port = urlsplit(mine[0].url).port or 0
        if listening(port):
            port = free_port()
            mine[0].url = f"http://127.0.0.1:{port}/"
        return port
