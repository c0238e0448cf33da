"""Signing in: cookies, the CSRF token, guessing, sessions that end."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from fastapi import FastAPI
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from screening import reviewers, sign_in
from screening.actors import Role
from screening.tables import Platform, Reviewer, ReviewerSession
from tests.browsing import PASSWORD, Browser, browser, reviewer

Sessions = sessionmaker[Session]
T = TypeVar("T")
EMAIL = "ada@example.com"


def at(sessions: Sessions, offset: str, work: Callable[[Session], T]) -> T:
    with sessions.begin() as session:
        session.execute(text("SELECT set_config('assay.clock_offset', :offset, true)"), {"offset": offset})
        return work(session)


async def test_a_reviewer_signs_in_sees_their_platforms_and_signs_out(
    app: FastAPI, sessions: Sessions, platform: Platform
) -> None:
    reviewer(sessions, platform, role=Role.LEAD)
    async with browser(app) as page:
        assert (await page.refresh())["reviewer"] is None
        await page.sign_in(" Ada@Example.com")
        body = await page.refresh()
        assert body["reviewer"]["email"] == EMAIL
        assert [(g["platform"]["name"], g["role"]) for g in body["reviewer"]["grants"]] == [("acme", "lead")]
        assert body["reviewer"]["settings"]["keys"]["fake"] == "f"
        stolen = dict(page.cookies)
        assert (await page.send("DELETE", "/v1/session")).status_code == 204
        assert "assay_session" not in page.cookies
        page.cookies = stolen
        assert (await page.get("/v1/reviews/board")).status_code == 401


async def test_nothing_of_a_session_is_stored_but_hashes(app: FastAPI, sessions: Sessions, platform: Platform) -> None:
    reviewer(sessions, platform)
    async with browser(app) as page:
        await page.sign_in()
        token = page.cookies["assay_session"]
    with sessions() as session:
        [row] = session.scalars(select(ReviewerSession))
        [person] = session.scalars(select(Reviewer))
    assert row.token_hash == sign_in.token_hash(token)
    assert token.encode() not in row.token_hash
    assert person.password_hash is not None
    assert person.password_hash.startswith("$argon2id$")


@pytest.mark.parametrize("token", ["", "0" * 64, "ä"])
async def test_signing_in_from_elsewhere_is_refused(
    app: FastAPI, sessions: Sessions, platform: Platform, token: str
) -> None:
    reviewer(sessions, platform)
    async with browser(app) as page:
        await page.refresh()
        body = {"email": EMAIL, "password": PASSWORD}
        headers = {"X-CSRF-Token": token.encode()} if token else {}
        answer = await page.post("/v1/session", body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "csrf")
        assert "assay_session" not in page.cookies


async def test_a_wrong_password_and_an_unknown_address_look_alike(
    app: FastAPI, sessions: Sessions, platform: Platform
) -> None:
    reviewer(sessions, platform)
    answers = []
    async with browser(app) as page:
        for email in (EMAIL, "nobody@example.com"):
            codes = [(await page.try_sign_in(email, "wrong password here")).json()["code"] for _ in range(6)]
            answers.append(codes)
    assert answers[0] == answers[1] == ["wrong_credentials"] * 5 + ["locked_out"]


async def test_the_right_password_does_not_open_a_locked_door_but_does_later(
    app: FastAPI, sessions: Sessions, platform: Platform
) -> None:
    reviewer(sessions, platform)
    async with browser(app) as page:
        for _ in range(sign_in.FAILURES_ALLOWED):
            await page.try_sign_in(EMAIL, "wrong password here")
        answer = await page.try_sign_in(EMAIL)
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= 30
    knock = at(sessions, "1 minute", lambda s: sign_in.knock(s, EMAIL))
    assert knock.reviewer_id is not None


async def test_guesses_at_the_same_moment_are_all_counted(app: FastAPI, sessions: Sessions, platform: Platform) -> None:
    reviewer(sessions, platform)
    async with browser(app) as page:
        await page.refresh()
        body = {"email": EMAIL, "password": "wrong password here"}
        answers = await asyncio.gather(*(page.post("/v1/session", body) for _ in range(12)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [401] * sign_in.FAILURES_ALLOWED + [429] * (12 - sign_in.FAILURES_ALLOWED)


def test_locks_grow_but_never_beyond_a_quarter_of_an_hour(sessions: Sessions) -> None:
    locked = []
    for number in range(12):
        at(sessions, f"{number * 16} minutes", lambda s: sign_in.knock(s, "who@example.com"))
        knock = at(sessions, f"{number * 16} minutes", lambda s: sign_in.knock(s, "who@example.com"))
        locked.append(knock.locked_seconds or 0)
    assert max(locked) == sign_in.LONGEST_LOCK.total_seconds()
    assert locked == sorted(locked)


def test_a_session_ends_when_idle_and_after_a_day_of_work(sessions: Sessions, platform: Platform) -> None:
    person = reviewer(sessions, platform)
    with sessions.begin() as session:
        token = sign_in.admit(session, person.id)
    assert at(sessions, "119 minutes", lambda s: sign_in.signed_in(s, token)) is not None
    assert at(sessions, "238 minutes", lambda s: sign_in.signed_in(s, token)) is not None
    assert at(sessions, "359 minutes", lambda s: sign_in.signed_in(s, token)) is None
    with sessions.begin() as session:
        session.execute(text("UPDATE reviewer_sessions SET seen_at = now() + interval '1 day'"))
    assert at(sessions, "721 minutes", lambda s: sign_in.signed_in(s, token)) is None


def test_disabling_a_reviewer_ends_their_sessions_at_once(sessions: Sessions, platform: Platform) -> None:
    person = reviewer(sessions, platform)
    with sessions.begin() as session:
        token = sign_in.admit(session, person.id)
    with sessions.begin() as session:
        reviewers.disable(session, session.get_one(Reviewer, person.id), disabled=True)
    with sessions.begin() as session:
        assert sign_in.signed_in(session, token) is None
        assert sign_in.knock(session, EMAIL).reviewer_id is None


async def test_a_new_password_ends_the_other_sessions(app: FastAPI, sessions: Sessions, platform: Platform) -> None:
    reviewer(sessions, platform)
    new = "another long enough password"
    async with browser(app) as page, browser(app) as other:
        await page.sign_in()
        await other.sign_in()
        wrong = await page.post("/v1/session/password", {"current": "not it, I am sure", "new": new})
        assert wrong.json()["code"] == "wrong_credentials"
        assert (await page.post("/v1/session/password", {"current": PASSWORD, "new": "short"})).status_code == 422
        changed = await page.post("/v1/session/password", {"current": PASSWORD, "new": new})
        assert changed.status_code == 204, changed.text
        assert (await page.get("/v1/reviews/board")).status_code == 200
        assert (await other.get("/v1/reviews/board")).status_code == 401
        assert (await other.try_sign_in(EMAIL, new)).status_code == 200


async def test_settings_are_kept_merged_and_checked(app: FastAPI, sessions: Sessions, platform: Platform) -> None:
    reviewer(sessions, platform)
    async with browser(app) as page:
        await page.sign_in()
        path = "/v1/session/settings"
        await _changed(page, {"keys": {"fake": "x", "eraser": None}, "blur": False})
        body = await _changed(page, {"mask_opacity": 0.3})
        assert (body["keys"]["fake"], body["keys"]["authentic"], body["keys"]["eraser"]) == ("x", "a", None)
        assert (body["blur"], body["mask_opacity"]) == (False, 0.3)
        refused: list[dict[str, Any]] = [
            {"keys": {"skip": "a"}}, {"keys": {"dance": "d"}}, {"mask_opacity": 2}, {"colour": "red"}, {"keys": []},
        ]  # fmt: skip
        for wrong in refused:
            answer = await page.send("PATCH", path, json=wrong)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), wrong


async def _changed(page: Browser, changes: dict[str, Any]) -> dict[str, Any]:
    answer = await page.send("PATCH", "/v1/session/settings", json=changes)
    assert answer.status_code == 200, answer.text
    settings: dict[str, Any] = answer.json()["reviewer"]["settings"]
    return settings


def test_an_identity_provider_links_a_verified_address_once(sessions: Sessions, platform: Platform) -> None:
    person = reviewer(sessions, platform)
    issuer = "https://id.example"
    with sessions.begin() as session:
        assert sign_in.by_identity(session, issuer=issuer, subject="s1", email=None) is None
        linked = sign_in.by_identity(session, issuer=issuer, subject="s1", email=EMAIL)
        assert linked is not None
        assert linked.id == person.id
        assert sign_in.by_identity(session, issuer=issuer, subject="s1", email="moved@example.com") is linked
        assert sign_in.by_identity(session, issuer=issuer, subject="s2", email=EMAIL) is None
        assert sign_in.by_identity(session, issuer="https://evil.example", subject="s1", email=EMAIL) is None
