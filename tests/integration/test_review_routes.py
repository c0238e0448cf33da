"""The review queue over HTTP: who may do what, and what each answer holds."""

import re
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.routes import ROUTERS
from screening import api_keys, platforms
from screening.actors import Role
from screening.api_keys import Scope
from screening.ids import Prefix, encode
from screening.settings import Settings
from screening.tables import Event, Platform, Review, Reviewer
from tests import pictures
from tests.browsing import Browser, browser, signed_in
from tests.reviewing import policy, screened, with_files

Sessions = sessionmaker[Session]
DOCUMENT: dict[str, Any] = {"rules": []}
CHOICE = {"verdict": "fake", "note": "n"}


@dataclass(frozen=True)
class Row:
    """One route: what it takes, and the least role that it serves. `{id}` is a review of the platform."""

    method: str
    path: str
    least: Role
    json: Any = None


ROWS = (
    Row("GET", "/v1/reviews/board", Role.REVIEWER),
    Row("GET", "/v1/reviews", Role.REVIEWER),
    Row("POST", "/v1/reviews/claim", Role.REVIEWER, {}),
    Row("GET", "/v1/reviews/{id}", Role.REVIEWER),
    Row("GET", "/v1/reviews/{id}/image", Role.REVIEWER),
    Row("GET", "/v1/reviews/{id}/mask", Role.REVIEWER),
    Row("GET", "/v1/reviews/{id}/heatmap", Role.REVIEWER),
    Row("GET", "/v1/reviews/{id}/ela", Role.REVIEWER),
    Row("GET", "/v1/reviews/{id}/thumbnail", Role.REVIEWER),
    Row("GET", "/v1/reviews/{id}/corrections/0", Role.REVIEWER),
    Row("PUT", "/v1/reviews/{id}/correction", Role.REVIEWER),
    Row("POST", "/v1/reviews/{id}/claim", Role.REVIEWER, {}),
    Row("POST", "/v1/reviews/{id}/extend", Role.REVIEWER, {"lease_token": "x"}),
    Row("POST", "/v1/reviews/{id}/release", Role.REVIEWER, {"lease_token": "x"}),
    Row("POST", "/v1/reviews/{id}/skip", Role.REVIEWER, {"lease_token": "x", "reason": "other"}),
    Row("POST", "/v1/reviews/{id}/escalate", Role.REVIEWER, {"lease_token": "x", "reason": "r"}),
    Row("POST", "/v1/reviews/{id}/decision", Role.REVIEWER, {"lease_token": "x", **CHOICE}),
    Row("POST", "/v1/reviews/{id}/undo", Role.REVIEWER, {}),
    Row("POST", "/v1/reviews/{id}/exposure", Role.REVIEWER, {"seconds": 1}),
    Row("POST", "/v1/reviews/{id}/gps", Role.REVIEWER, {}),
    Row("POST", "/v1/reviews/{id}/reversal", Role.LEAD, CHOICE),
    Row("GET", "/v1/reviews/{id}/evidence", Role.LEAD),
    Row("GET", "/v1/audit", Role.LEAD),
    Row("GET", "/v1/quality", Role.LEAD),
    Row("GET", "/v1/goldens", Role.LEAD),
    Row("POST", "/v1/goldens", Role.LEAD, {"truth": "fake"}),
    Row("DELETE", "/v1/goldens/{scr}", Role.LEAD),
    Row("GET", "/v1/reviews/{id}/cluster", Role.REVIEWER),
    Row("POST", "/v1/reviews/{id}/bulk", Role.LEAD, {"dry_run": True, **CHOICE}),
    Row("POST", "/v1/reviews/bulk/dec_{0}/undo", Role.REVIEWER, {}),
    Row("GET", "/v1/policy", Role.REVIEWER),
    Row("PUT", "/v1/policy", Role.ADMIN, DOCUMENT),
    Row("GET", "/v1/policy/versions", Role.REVIEWER),
    Row("GET", "/v1/policy/versions/0", Role.REVIEWER),
    Row("GET", "/v1/policy/shadow", Role.REVIEWER),
    Row("PUT", "/v1/policy/shadow", Role.ADMIN, DOCUMENT),
    Row("DELETE", "/v1/policy/shadow", Role.ADMIN),
    Row("POST", "/v1/policy/backtest", Role.ADMIN, {"document": DOCUMENT}),
    Row("GET", "/v1/policy/kill-switch", Role.REVIEWER),
    Row("PUT", "/v1/policy/kill-switch", Role.ADMIN, {"engaged": True}),
)
SCREENINGS: dict[str, str] = {}  # the screening of each fixture's review
ABSENT = {
    ("GET", "/v1/policy/shadow"),
    ("GET", "/v1/reviews/{id}/corrections/0"),
    ("POST", "/v1/reviews/bulk/dec_{0}/undo"),
    ("POST", "/v1/reviews/{id}/gps"),
}  # nothing there as yet
ACTED_ON = {"reviews", "policy", "goldens", "quality", "audit"}


@pytest.fixture
def review_id(sessions: Sessions, platform: Platform, settings: Settings) -> str:
    policy(sessions, platform)
    made = screened(sessions, platform)
    with_files(sessions, settings.blob_url, made, pictures.jpeg(64, 48))
    named = encode(Prefix.REVIEW, made)
    with sessions() as session:
        SCREENINGS[named] = encode(Prefix.SCREENING, session.get_one(Review, made).screening_id)
    return named


async def send(page: Browser, row: Row, review_id: str, platform: Platform, **options: Any) -> httpx.Response:
    path = row.path.replace("{id}", review_id).replace("{0}", "0" * 32)
    path = path.replace("{scr}", SCREENINGS.get(review_id, ""))
    if "{id}" not in row.path and not row.path.endswith("claim"):
        path += f"?platform={encode(Prefix.PLATFORM, platform.id)}"
    body = row.json
    if row.path == "/v1/goldens" and body:
        body = {**body, "screening": SCREENINGS[review_id]}
    if row.path.endswith("reviews/claim"):
        body = {"platform": encode(Prefix.PLATFORM, platform.id)}
    if row.method == "PUT" and "headers" not in options:
        options["headers"] = {"X-CSRF-Token": page.csrf, "If-Match": '"1"', "X-Lease-Token": "x"}
    return await page.send(row.method, path, json=body, **options)


def test_the_matrix_knows_every_route() -> None:
    listed = {(row.method, re.sub(r"/0$", "/{}", re.sub(r"\{id\}|\{scr\}|dec_\{0\}", "{}", row.path))) for row in ROWS}
    served = {
        (method, re.sub(r"\{[^}]*\}", "{}", route.path))
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and ACTED_ON & {str(tag) for tag in route.tags}
        for method in route.methods or ()
    }
    assert served == listed


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_does_what_it_may_and_no_more(
    app: FastAPI, sessions: Sessions, platform: Platform, review_id: str, role: Role
) -> None:
    async with signed_in(app, sessions, platform, role=role) as page:
        for row in ROWS:
            answer = await send(page, row, review_id, platform)
            if role.includes(row.least):
                expected = {404} if (row.method, row.path) in ABSENT else {200, 201, 204, 409, 412}
                assert answer.status_code in expected, (row, answer.text)
            else:
                assert (answer.status_code, answer.json()["code"]) == (403, "role_too_small"), row


async def test_without_a_grant_there_is_nothing_whatever_the_role_elsewhere(
    app: FastAPI, sessions: Sessions, platform: Platform, review_id: str
) -> None:
    with sessions.begin() as session:
        other = platforms.create(session, "other")
    async with signed_in(app, sessions, other, role=Role.ADMIN) as page:
        for row in ROWS:
            answer = await send(page, row, review_id, platform)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), row
        assert (await page.get("/v1/reviews/board")).json()["queues"] == []
        assert (await page.get("/v1/reviews")).json()["data"] == []
        assert (await page.post("/v1/reviews/claim")).status_code == 204


async def test_nobody_and_keys_without_the_scope_are_refused(
    app: FastAPI, sessions: Sessions, platform: Platform, review_id: str
) -> None:
    with sessions.begin() as session:
        key = api_keys.create(session, platform.id, frozenset({Scope.READ, Scope.WRITE}))
    async with browser(app) as page:
        for row in ROWS:
            assert (await send(page, row, review_id, platform)).status_code == 401, row
            answer = await send(page, row, review_id, platform, headers={"Authorization": f"Bearer {key}"})
            assert answer.status_code == 403, row


@pytest.mark.parametrize(
    ("scopes", "role"),
    [({Scope.REVIEW}, Role.REVIEWER), ({Scope.ADMIN}, Role.ADMIN), (set(Scope), Role.ADMIN)],
)
async def test_a_key_acts_by_its_scopes_and_needs_no_csrf_token(
    app: FastAPI, sessions: Sessions, platform: Platform, review_id: str, scopes: set[Scope], role: Role
) -> None:
    with sessions.begin() as session:
        key = api_keys.create(session, platform.id, frozenset(scopes))
    async with browser(app) as page:
        for row in ROWS:
            headers = {"Authorization": f"Bearer {key}", "If-Match": '"1"', "X-Lease-Token": "x"}
            answer = await send(page, row, review_id, platform, headers=headers)
            assert (answer.status_code == 403) == (not role.includes(row.least)), (row, answer.text)


async def test_every_change_needs_the_csrf_token(
    app: FastAPI, sessions: Sessions, platform: Platform, review_id: str
) -> None:
    async with signed_in(app, sessions, platform, role=Role.ADMIN) as page:
        changes = [row for row in ROWS if row.method != "GET"]
        changes += [Row("DELETE", "/v1/session", Role.REVIEWER)]
        changes += [Row("PATCH", "/v1/session/settings", Role.REVIEWER, {})]
        changes += [Row("POST", "/v1/session/password", Role.REVIEWER, {"current": "x", "new": "x" * 20})]
        for row in changes:
            for headers in ({}, {"X-CSRF-Token": "0" * 64}, {"X-CSRF-Token": ""}):
                answer = await send(page, row, review_id, platform, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (403, "csrf"), row


async def test_an_item_is_claimed_shown_decided_undone_and_decided(
    app: FastAPI, sessions: Sessions, platform: Platform, review_id: str
) -> None:
    async with signed_in(app, sessions, platform, role=Role.REVIEWER) as page:
        board = (await page.get("/v1/reviews/board")).json()
        assert [(q["queue"], q["pending"], q["pending_is_minimum"]) for q in board["queues"]] == [("default", 1, False)]
        claimed = (await page.post("/v1/reviews/claim")).json()
        shown, lease = claimed["review"], claimed["lease"]
        assert shown == (await page.get(f"/v1/reviews/{review_id}")).json()
        assert (shown["id"], shown["state"], shown["lease"]) == (review_id, "claimed", lease)
        assert shown["policy"]["reasons"][0]["code"] == "splice"
        assert (await page.get("/v1/reviews/board")).json()["mine"] == {"claimed": 1, "settling": 0}
        choice = {
            "lease_token": lease["token"],
            "verdict": "fake",
            "reason": "splice",
            "note": "<script>alert(1)</script>",
        }
        decided = await page.post(f"/v1/reviews/{review_id}/decision", choice)
        assert (decided.json()["state"], decided.json()["decision"]["action"]) == ("settling", "block")
        repeated = await page.post(f"/v1/reviews/{review_id}/decision", choice)
        assert (repeated.status_code, repeated.json()["code"]) == (409, "lease_lost")
        undone = (await page.post(f"/v1/reviews/{review_id}/undo")).json()
        assert undone["lease"]["token"] != lease["token"]
        again = {**choice, "lease_token": undone["lease"]["token"], "verdict": "authentic", "reason": "no_trace"}
        assert (await page.post(f"/v1/reviews/{review_id}/decision", again)).status_code == 200
        assert [d["verdict"] for d in (await page.get(f"/v1/reviews/{review_id}")).json()["decisions"]] == [
            "fake",
            "authentic",
        ]
        assert (await page.post("/v1/reviews/claim")).status_code == 204


async def test_the_second_reviewer_reads_nothing_of_the_first_decision_on_any_route(
    app: FastAPI, sessions: Sessions, platform: Platform, review_id: str
) -> None:
    policy(sessions, platform, {"second_review": {"verdicts": ["fake"]}})
    review_id = encode(Prefix.REVIEW, screened(sessions, platform, score=0.99))
    secret = "a-very-particular-note"
    async with signed_in(app, sessions, platform, role=Role.REVIEWER) as first:
        lease = (await first.post(f"/v1/reviews/{review_id}/claim")).json()["lease"]
        choice = {
            "lease_token": lease["token"],
            "verdict": "fake",
            "action": "label",
            "reason": "splice",
            "note": secret,
        }
        await first.post(f"/v1/reviews/{review_id}/decision", choice)
        with sessions.begin() as session:
            settling = session.scalars(select(Review).where(Review.state == "settling")).one()
            settling.settles_at = settling.created_at
    async with signed_in(app, sessions, platform, role=Role.ADMIN) as second:
        read = [row for row in ROWS if row.method == "GET"]
        for row in read:
            text = (await send(second, row, review_id, platform)).text
            assert secret not in text, row
            assert '"action":"label"' not in text, row
        shown = (await second.get(f"/v1/reviews/{review_id}")).json()
        assert (shown["state"], shown["stage"], shown["decisions"]) == ("pending", "second", [])
        claimed = await second.post(f"/v1/reviews/{review_id}/claim")
        assert claimed.status_code == 200
        assert secret not in claimed.text
    async with browser(app) as page:
        with sessions() as session:
            person = session.scalars(select(Reviewer).where(Reviewer.email == "reviewer@example.com")).one()
        await page.enter(sessions, person)
        assert (await page.post(f"/v1/reviews/{review_id}/claim")).json()["code"] == "not_claimable"
    with sessions() as session:
        assert not [t for t in session.scalars(select(Event.type)) if t.startswith("review.")]


async def test_lists_are_paged_by_a_signed_cursor(
    app: FastAPI, sessions: Sessions, platform: Platform, review_id: str
) -> None:
    ids = [encode(Prefix.REVIEW, screened(sessions, platform)) for _ in range(4)]
    async with signed_in(app, sessions, platform, role=Role.REVIEWER) as page:
        seen, path = [], "/v1/reviews?limit=2"
        while path:
            answer = await page.get(path)
            seen += [row["id"] for row in answer.json()["data"]]
            link = re.match(r"<http://testserver(.*)>; rel=\"next\"", answer.headers.get("link", ""))
            path = link[1] if link else ""
        assert seen == [*reversed(ids), review_id]
        assert (await page.get("/v1/reviews?limit=2&cursor=bm9uc2Vuc2U")).json()["code"] == "invalid_cursor"


async def test_a_policy_is_replaced_only_by_who_has_read_it(
    app: FastAPI, sessions: Sessions, platform: Platform, client: httpx.AsyncClient
) -> None:
    first = await client.get("/v1/policy")
    assert (first.headers["etag"], first.json()["built_in"]) == ('"0"', True)
    document = {**first.json()["document"], "otherwise": "review"}
    assert (await client.put("/v1/policy", json=document)).json()["code"] == "precondition_required"
    assert (await client.put("/v1/policy", json=document, headers={"If-Match": "*"})).status_code == 400
    put = await client.put("/v1/policy", json=document, headers={"If-Match": first.headers["etag"]})
    assert (put.status_code, put.headers["etag"], put.json()["document"]["otherwise"]) == (200, '"1"', "review")
    stale = await client.put("/v1/policy", json=document, headers={"If-Match": first.headers["etag"]})
    assert (stale.status_code, stale.json()["code"]) == (412, "stale_policy")
    for wrong in ({"rules": [{"name": "x", "outcome": "explode"}]}, {"rules": [], "text": "a\0b"}):
        answer = await client.put("/v1/policy", json=wrong, headers={"If-Match": '"1"', "X-Lease-Token": "x"})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_a_backtest_and_the_shadow_answer_over_http(
    client: httpx.AsyncClient, sessions: Sessions, platform: Platform
) -> None:
    block = {"rules": [{"name": "all", "outcome": "block"}], "check_blocks": {"share": 0}}
    assert (await client.put("/v1/policy/shadow", json=block)).json() == {"version": 1}
    screened(sessions, platform, score=0.97)
    report = (await client.post("/v1/policy/backtest", json={"document": block})).json()
    assert (report["judged"], report["becomes"]) == (1, {"block": 1})
    assert report["flips"] == [{"was": "review", "becomes": "block", "count": 1}]
    shadow = (await client.get("/v1/policy/shadow")).json()
    assert shadow == {
        "version": 1, "judged": 1, "agree": 0, "flips": [{"was": "review", "becomes": "block", "count": 1}]
    }  # fmt: skip


async def test_the_kill_switch_over_http(client: httpx.AsyncClient) -> None:
    put = await client.put("/v1/policy/kill-switch", json={"engaged": True, "reason": "false positives"})
    assert put.json()["engaged"] is True
    assert (await client.get("/v1/policy")).json()["blocks_suspended"] is True
