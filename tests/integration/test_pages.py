"""Who may open which page, what a page does without its token, and what it says of what it was given."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session, sessionmaker

from api.pages.routes import ROUTERS
from screening import audit, deliveries, endpoints, platforms
from screening.actors import Role
from screening.decisions import Choice
from screening.ids import Prefix, encode
from screening.settings import Settings
from screening.tables import Delivery, Endpoint, Platform, Review
from screening.webhook_secrets import SecretBox
from tests import pictures
from tests.browsing import PASSWORD, Browser, browser, signed_in
from tests.reviewing import actor, decide, policy, screened, with_files

Sessions = sessionmaker[Session]
Ids = dict[str, str]


@dataclass(frozen=True)
class Row:
    """One page: the least role on the platform that it is about, and the form that it takes."""

    method: str
    path: str
    least: Role
    form: Any = None
    of_platform: bool = True  # False: everybody's own, whatever they are granted


ACTIONS = ("test", "rotate", "disable", "enable", "delete")
ROWS = (
    Row("GET", "/", Role.REVIEWER, of_platform=False),
    Row("GET", "/board/figures", Role.REVIEWER, of_platform=False),
    Row("GET", "/review", Role.REVIEWER, of_platform=False),
    Row("GET", "/settings", Role.REVIEWER, of_platform=False),
    Row("GET", "/reviews/{review_id}", Role.REVIEWER),
    Row("GET", "/reviews/{review_id}/cluster", Role.LEAD),
    Row("GET", "/screenings", Role.REVIEWER),
    Row("GET", "/screenings/{screening_id}", Role.REVIEWER),
    Row("GET", "/screenings/{screening_id}/mask.bytes", Role.REVIEWER),
    Row("GET", "/quality", Role.LEAD),
    Row("GET", "/audit", Role.LEAD),
    Row("GET", "/policy", Role.ADMIN),
    Row("GET", "/policy/versions/1", Role.ADMIN),
    Row("GET", "/webhooks", Role.ADMIN),
    Row("POST", "/webhooks", Role.ADMIN, {"url": "https://example.com/other"}),
    Row("GET", "/webhooks/{endpoint_id}", Role.ADMIN),
    Row("POST", "/webhooks/deliveries/{delivery_id}/replay", Role.ADMIN, {}),
    *(Row("POST", f"/webhooks/{{endpoint_id}}/{action}", Role.ADMIN, {}) for action in ACTIONS),
)
OPEN = {"GET /signin", "POST /signin", "POST /sign-out", "GET /static/{version}/{name:path}"}  # asked about apart
SCRIPT = "<script>window.harmed = 1</script>"


@pytest.fixture
def ids(sessions: Sessions, platform: Platform, settings: Settings) -> Ids:
    """One thing of each kind on the platform."""
    policy(sessions, platform)
    review_id = screened(sessions, platform)
    with_files(sessions, settings.blob_url, review_id, pictures.jpeg(64, 48))
    with sessions.begin() as session:
        endpoint, _ = endpoints.create(session, SecretBox(settings.keys), platform.id, "https://example.com/hook")
        delivery = deliveries.send_test(session, endpoint)
        return {
            "review_id": encode(Prefix.REVIEW, review_id),
            "screening_id": encode(Prefix.SCREENING, session.get_one(Review, review_id).screening_id),
            "endpoint_id": encode(Prefix.ENDPOINT, endpoint.id),
            "delivery_id": encode(Prefix.DELIVERY, delivery.id),
        }


async def ask(page: Browser, row: Row, ids: Ids, platform: Platform, token: str | None = None) -> httpx.Response:
    """As the browser does: forms carry the token as a field, no header does."""
    path = row.path.format(**ids)
    named = encode(Prefix.PLATFORM, platform.id)
    if row.method == "GET":
        return await page.get(f"{path}?platform={named}" if "{" not in row.path else path, headers={})
    form = {**row.form, "platform": named, "csrf_token": page.csrf if token is None else token}
    return await page.send(row.method, path, data=form, headers={})


def test_the_matrix_knows_every_page() -> None:
    served = {
        f"{method} {route.path}"
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    spelled = {
        "/policy/versions/1": "/policy/versions/{version}",
        "/screenings/{screening_id}/mask.bytes": "/screenings/{screening_id}/{part}.bytes",
        **{f"/webhooks/{{endpoint_id}}/{action}": "/webhooks/{endpoint_id}/{action}" for action in ACTIONS},
    }
    assert served - OPEN == {f"{row.method} {spelled.get(row.path, row.path)}" for row in ROWS}


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_opens_its_pages_and_no_others(
    app: FastAPI, sessions: Sessions, platform: Platform, ids: Ids, role: Role
) -> None:
    async with signed_in(app, sessions, platform, role=role) as page:
        for row in ROWS:
            answer = await ask(page, row, ids, platform)
            if role.includes(row.least):
                assert answer.status_code in (200, 303), (row, answer.status_code, answer.text[:300])
            else:
                assert answer.status_code in (403, 404), (row, answer.status_code)
                assert "hook" not in answer.text


async def test_without_a_grant_every_page_of_the_platform_is_nothing(
    app: FastAPI, sessions: Sessions, platform: Platform, ids: Ids
) -> None:
    with sessions.begin() as session:
        other = platforms.create(session, "other")
    async with signed_in(app, sessions, other, role=Role.ADMIN) as page:
        for row in ROWS:
            answer = await ask(page, row, ids, platform)
            assert platform.name not in answer.text
            assert answer.status_code == (404 if row.of_platform else 200), (row, answer.status_code)


async def test_nobody_is_sent_to_sign_in_from_every_page(app: FastAPI, platform: Platform, ids: Ids) -> None:
    async with browser(app) as page:
        for row in ROWS:
            answer = await ask(page, row, ids, platform)
            assert answer.status_code == 303, row
            where = quote(row.path.format(**ids), safe="")
            assert answer.headers["location"].startswith(f"/signin?next={where}"), row


async def test_no_form_works_without_its_token(app: FastAPI, sessions: Sessions, platform: Platform, ids: Ids) -> None:
    async with signed_in(app, sessions, platform, role=Role.ADMIN) as page:
        forms = [row for row in ROWS if row.method != "GET"]
        forms += [Row("POST", "/sign-out", Role.REVIEWER, {})]
        forms += [Row("POST", "/signin", Role.REVIEWER, {"email": f"{Role.ADMIN}@example.com", "password": PASSWORD})]
        for row in forms:
            for token in ("", "0" * 64):
                assert (await ask(page, row, ids, platform, token)).status_code == 403, row
        assert (await page.refresh())["reviewer"] is not None
    with sessions() as session:
        assert [row.url for row in session.scalars(select(Endpoint))] == ["https://example.com/hook"]
        assert len(session.scalars(select(Delivery)).all()) == 1


def decided(sessions: Sessions, platform: Platform, score: float, verdict: str, note: str | None = None) -> str:
    """A review decided by somebody, past its undo window."""
    review_id = screened(sessions, platform, score=score)
    decide(sessions, actor(platform), review_id, Choice(verdict, note=note))
    return encode(Prefix.REVIEW, review_id)


async def test_the_quality_page_says_each_number_with_its_n_and_interval_and_what_is_not_known_yet(
    app: FastAPI, sessions: Sessions, platform: Platform
) -> None:
    policy(sessions, platform)
    async with signed_in(app, sessions, platform, role=Role.LEAD) as page:
        empty = (await page.get("/quality")).text
        assert "No allow has been sampled yet." in empty
        assert "No reviewed image in this window yet." in empty
        assert "n =" not in empty
        for score, verdict in ((0.95, "fake"), (0.92, "fake"), (0.6, "authentic")):
            decided(sessions, platform, score, verdict)
        full = (await page.get("/quality?days=90")).text
    assert "67 %" in full
    assert "95 %: 21 % – 94 %" in full  # Wilson's interval of two in three
    assert "n = 3" in full
    assert full.count('<g class="point">') == 2
    assert full.count('<rect class="bar"') == 3
    assert "Said 0.60, found 0 % of 1." in full
    assert "style=" not in full  # the pages' policy would drop it


async def test_the_audit_page_shows_the_trail_filters_it_and_names_a_broken_entry(
    app: FastAPI, sessions: Sessions, platform: Platform, engine: Engine
) -> None:
    policy(sessions, platform, {"second_review": {"verdicts": ["fake"]}})
    final = decided(sessions, platform, 0.9, "authentic")
    open_one = decided(sessions, platform, 0.9, "fake", note="seam")
    async with signed_in(app, sessions, platform, role=Role.LEAD) as page:
        shown = (await page.get("/audit")).text
        with sessions() as session:
            head = audit.verify(session).head.hex()
        assert "fit together" in shown
        assert head in shown
        assert f'href="/v1/reviews/{final}/evidence"' in shown
        assert "not to be read before the review is decided" in shown
        assert f'href="/v1/reviews/{open_one}/evidence"' not in shown
        only = (await page.get("/audit?kind=policy")).text
        assert ("policy · put" in only, "decision · settled" in only) == (True, False)
        one = (await page.get(f"/audit?subject={final}")).text
        assert (final in one, open_one in one, "Download its evidence" in one) == (True, False, True)
        nothing = (await page.get(f"/audit?subject={quote(SCRIPT)}")).text
        assert "No entry fits." in nothing
        assert SCRIPT not in nothing
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            connection.execute(text("UPDATE audit_entries SET actor = 'nobody' WHERE sequence = 1"))
        assert "Entry 1: the entry&#39;s content does not match its hash" in (await page.get("/audit")).text


async def test_the_trail_is_read_page_by_page(app: FastAPI, sessions: Sessions, platform: Platform) -> None:
    with sessions.begin() as session:
        for number in range(120):
            audit.append(session, actor="operator", action="policy.put", subject=f"s{number}", platform_id=platform.id)
    async with signed_in(app, sessions, platform, role=Role.LEAD) as page:
        seen: list[str] = []
        address = "/audit"
        while address:
            shown = (await page.get(address)).text
            seen += [f"s{n}" for n in range(119, -1, -1) if f">s{n}<" in shown]
            further = shown.partition('rel="next" href="')[2].partition('"')[0]
            address = further.replace("&amp;", "&")
    assert seen == [f"s{n}" for n in range(119, -1, -1)]


def test_the_newest_entries_are_verified_without_reading_the_rest(
    sessions: Sessions, platform: Platform, engine: Engine
) -> None:
    with sessions.begin() as session:
        for number in range(30):
            audit.append(session, actor="operator", action="policy.put", subject=f"s{number}", platform_id=platform.id)
    with sessions() as session:
        assert audit.verify_newest(session, 10) == audit.Verification(10, audit.verify(session).head)
        assert audit.verify_newest(session, 100) == audit.verify(session)
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("UPDATE audit_entries SET actor = 'nobody' WHERE sequence = 25"))
    with sessions() as session:
        assert audit.verify_newest(session, 10).broken_at == 25
        assert audit.verify_newest(session, 3).broken_at is None


@pytest.mark.parametrize(
    "address", ["/quality?days=0", "/quality?days=x", "/audit?before=x", f"/audit?kind={'x' * 200}"]
)
async def test_an_address_that_does_not_fit_is_answered_with_a_page(
    app: FastAPI, sessions: Sessions, platform: Platform, address: str
) -> None:
    async with signed_in(app, sessions, platform, role=Role.LEAD) as page:
        answer = await page.get(address)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "text/html; charset=utf-8")
    assert "has something that does not fit" in answer.text
