"""What does a newcomer need to try everything? A platform with a key, a listening endpoint, a reviewer: made once."""

import json
import secrets
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from screening import api_keys, platforms, reviewers
from screening.actors import Role
from screening.api_keys import Scope
from screening.stack.home import Home, write_private

PLATFORM = "demo"
EMAIL = "reviewer@demo.example"
SCOPES = frozenset({Scope.READ, Scope.WRITE, Scope.REVIEW, Scope.ADMIN})


@dataclass(slots=True)
class Credentials:
    """The content of `demo.json`. Names are fixed: clients and checks read them."""

    url: str
    api_key: str
    webhook_secret: str
    reviewer_email: str
    reviewer_password: str


def credentials(home: Home, sessions: sessionmaker[Session], url: str) -> Credentials:
    """The demo's credentials, kept over restarts; only the address may change."""
    known: dict[str, Any] = json.loads(home.demo.read_text()) if home.demo.exists() else {}
    made = Credentials(**(known | {"url": url})) if known else _new(sessions, url)
    _reviewer(sessions, made)
    write_private(home.demo, asdict(made))
    return made


def _new(sessions: sessionmaker[Session], url: str) -> Credentials:
    with sessions.begin() as session:
        platform = platforms.by_name(session, PLATFORM) or platforms.create(session, PLATFORM)
        key = api_keys.create(session, platform.id, SCOPES)
    return Credentials(url, key, "", EMAIL, secrets.token_urlsafe(12))


def _reviewer(sessions: sessionmaker[Session], made: Credentials) -> None:
    """Whoever signs in to the demo: an administrator of its one platform."""
    with sessions.begin() as session:
        platform = platforms.by_name(session, PLATFORM)
        if platform is None or reviewers.by_email(session, made.reviewer_email) is not None:
            return
        reviewer = reviewers.create(session, made.reviewer_email, "Demo reviewer", made.reviewer_password)
        reviewers.grant(session, reviewer, platform.id, Role.ADMIN)
