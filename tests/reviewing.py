"""What does a test of reviews need? Actors with roles, and images that wait before people."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from screening import jobs, policies
from screening.actors import Actor, Grant, Role
from screening.ids import uuid7
from screening.rules import Document
from screening.tables import Platform, Review
from tests.findings import finding, intake

Sessions = sessionmaker[Session]
EVERYTHING_REVIEWED: dict[str, Any] = {"rules": [], "otherwise": "review", "golden_share": 0}


def actor(*platforms: Platform, role: Role = Role.REVIEWER) -> Actor:
    """Somebody with one role on some platforms."""
    return Actor(uuid7(), {p.id: Grant(role, f"rvr_{uuid7().hex}") for p in platforms})


def policy(sessions: Sessions, platform: Platform, content: dict[str, Any] | None = None) -> int:
    """Put a policy, by default one that sends everything to people and mixes nothing in."""
    made = Document.model_validate({**EVERYTHING_REVIEWED, **(content or {})})
    with sessions.begin() as session:
        standing = policies.standing(session, platform.id).version
        return policies.put(session, platform.id, made, expected_version=standing, actor="operator")


def screened(sessions: Sessions, platform: Platform, offset: str = "0", **values: Any) -> UUID:
    """The review of one screened image; `values` are its finding's."""
    with sessions.begin() as session:
        session.execute(text("SELECT set_config('assay.clock_offset', :offset, true)"), {"offset": offset})
        screening_id = jobs.enqueue(session, intake(platform.id)).id
        [held] = jobs.claim(session, limit=1, worker="w1", lease=timedelta(seconds=60))
        assert held.screening_id == screening_id
        assert jobs.complete(session, held, finding(held, **values))
        return session.scalars(select(Review.id).where(Review.screening_id == screening_id)).one()
