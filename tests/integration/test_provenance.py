"""What a file says of itself is kept with its finding, shown without the position, and stops machines from deciding."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from screening import jobs
from screening.ids import Prefix, encode
from screening.tables import AuditEntry, Finding, Platform, Review
from tests.browsing import Browser, browser, reviewer
from tests.findings import finding, intake
from tests.reviewing import policy

Sessions = sessionmaker[Session]
SAID: dict[str, Any] = {
    "c2pa": {"state": "untrusted", "generator": "Camera", "claims": [], "sources": ["digitalCapture"]},
    "exif": [{"name": "Make", "value": "Acme"}], "gps": {"latitude": -33.86, "longitude": 151.2}, "jpeg": None,
    "thumbnail": None, "conflicts": ["signed_capture_but_high_score"],
}  # fmt: skip


@pytest.fixture
async def page(app: FastAPI, sessions: Sessions, platform: Platform) -> AsyncIterator[Browser]:
    person = reviewer(sessions, platform)
    async with browser(app) as made:
        yield await made.enter(sessions, person)


def recorded(sessions: Sessions, platform: Platform, said: dict[str, Any]) -> UUID:
    with sessions.begin() as session:
        jobs.enqueue(session, intake(platform.id))
        [held] = jobs.claim(session, limit=1, worker="w1", lease=timedelta(seconds=60))
        made = finding(held, score=0.99, provenance_conflict=True)
        assert jobs.complete(session, held, made, None, said)
        return session.scalars(select(Review.id).where(Review.screening_id == held.screening_id)).one()


async def test_a_signed_capture_is_never_blocked_by_a_machine_and_the_page_says_why(
    page: Browser, sessions: Sessions, platform: Platform
) -> None:
    policy(sessions, platform, {"otherwise": "block"})
    review_id = recorded(sessions, platform, SAID)
    shown = (await page.get(f"/v1/reviews/{encode(Prefix.REVIEW, review_id)}")).json()
    assert (shown["policy"]["outcome"], shown["policy"]["guard"]) == ("review", "provenance_conflict")
    assert shown["risk"] == 1
    assert shown["provenance"]["conflicts"][0]["code"] == "signed_capture_but_high_score"
    assert "camera" in shown["provenance"]["conflicts"][0]["text"]
    with sessions() as session:
        assert session.scalars(select(Finding.outcome)).one() == "review"


async def test_the_position_is_hidden_until_asked_for_and_the_asking_is_recorded(
    page: Browser, sessions: Sessions, platform: Platform
) -> None:
    policy(sessions, platform)
    path = f"/v1/reviews/{encode(Prefix.REVIEW, recorded(sessions, platform, SAID))}"
    shown = await page.get(path)
    assert shown.json()["provenance"]["gps"] == "hidden"
    assert "151.2" not in shown.text
    assert (await page.post(f"{path}/gps")).json() == {"gps": SAID["gps"]}
    with sessions() as session:
        assert "provenance.position_shown" in session.scalars(select(AuditEntry.action)).all()
    without = f"/v1/reviews/{encode(Prefix.REVIEW, recorded(sessions, platform, {**SAID, 'gps': None}))}"
    assert (await page.post(f"{without}/gps")).status_code == 404
