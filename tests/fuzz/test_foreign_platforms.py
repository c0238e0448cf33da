"""Two platforms fuzzed against each other: no route of the API tells one that the other's things exist."""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from api.pages import routes as page_routers
from screening import api_keys, deliveries, endpoints, platforms
from screening.actors import Role
from screening.api_keys import Scope
from screening.ids import Prefix, encode, uuid7
from screening.settings import Settings
from screening.tables import Delivery, Platform, Review
from screening.webhook_secrets import SecretBox
from tests import pictures, reviewing
from tests.browsing import browser, reviewer
from tests.problems import assert_problem

Sessions = sessionmaker[Session]
GUESSES = 500 if os.environ.get("ASSAY_SOAK") else 20  # per route, beside the real ids

TOKEN = {"X-Lease-Token": "0" * 32}
LEASE = {"lease_token": "0" * 32}
# A body that the route would accept, so that it is the id that is refused. A new route has to be added here.
BODIES: dict[str, Any] = {
    "POST /v1/screenings/{screening_id}/feedback": {"truth": "fake"},
    "POST /v1/reviews/{review_id}/extend": LEASE,
    "POST /v1/reviews/{review_id}/release": LEASE,
    "POST /v1/reviews/{review_id}/skip": {**LEASE, "reason": "unclear"},
    "POST /v1/reviews/{review_id}/escalate": {**LEASE, "reason": "Not sure."},
    "POST /v1/reviews/{review_id}/decision": {**LEASE, "verdict": "fake"},
    "POST /v1/reviews/{review_id}/reversal": {"verdict": "fake", "note": "It is."},
    "POST /v1/reviews/{review_id}/exposure": {"seconds": 1},
    "POST /v1/reviews/{review_id}/bulk": {"dry_run": False, "verdict": "fake", "note": "They are."},
    "PATCH /v1/webhook-endpoints/{endpoint_id}": {"enabled": False},
    "POST /v1/webhook-endpoints/{endpoint_id}/replay": {"since": "2020-01-01T00:00:00Z"},
}
# Not an id of a platform's thing: a number within the caller's own policy or within the review that is named.
NUMBERS = {"version": "1"}
# Decided by the session of a person, not by a key.
SESSIONS = ("/v1/session",)

TABLES = (
    "screenings", "submissions", "images", "findings", "feedback", "reviews", "events", "endpoints", "deliveries",
    "policies",
)  # fmt: skip


@dataclass
class Side:
    """One platform with one thing of every kind."""

    platform: Platform
    key: str
    ids: dict[str, str] = field(default_factory=dict)  # path parameter -> id


def furnish(sessions: Sessions, settings: Settings, name: str) -> Side:
    with sessions.begin() as session:
        platform = platforms.by_name(session, name) or platforms.create(session, name)
        side = Side(platform, api_keys.create(session, platform.id, frozenset(Scope)))
    reviewing.policy(sessions, platform)
    review_id = reviewing.screened(sessions, platform)
    reviewing.with_files(sessions, settings.blob_url, review_id, pictures.jpeg(64, 48))
    with sessions.begin() as session:
        review = session.get_one(Review, review_id)
        endpoint, _ = endpoints.create(session, SecretBox(settings.keys), platform.id, "https://example.com/hook")
        delivery = deliveries.send_test(session, endpoint)
        side.ids = {
            "screening_id": encode(Prefix.SCREENING, review.screening_id),
            "review_id": encode(Prefix.REVIEW, review_id),
            "endpoint_id": encode(Prefix.ENDPOINT, endpoint.id),
            "delivery_id": encode(Prefix.DELIVERY, delivery.id),
            "bulk_id": encode(Prefix.DECISION, uuid7()),  # to be one needs a cluster; here it is never found
        }
    return side


@pytest.fixture
def sides(sessions: Sessions, settings: Settings) -> tuple[Side, Side]:
    return furnish(sessions, settings, "mine"), furnish(sessions, settings, "theirs")


def routes(app: FastAPI) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in app.openapi()["paths"].items():
        for method, operation in operations.items():
            yield method.upper(), path, operation


def named(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def guesses(rng: random.Random, own: str, foreign: str) -> Iterator[str]:
    """The foreign id, ids near to it, ids of another noun, and nonsense."""
    prefix, _, digits = foreign.partition("_")
    yield foreign
    yield from (
        f"{prefix}_{UUID(hex=digits)}",
        digits,
        foreign.upper(),
        f"{foreign}0",
        f"img_{digits}",
        "%00",
        "%252e%252e",
        "0",
    )
    yield f"{prefix}_{own.partition('_')[2][:16]}{digits[16:]}"
    for _ in range(GUESSES):
        kind = rng.randrange(3)
        if kind == 0:
            yield f"{prefix}_{(int(digits, 16) ^ (1 << rng.randrange(128))):032x}"
        elif kind == 1:
            yield f"{prefix}_{uuid7().hex}"
        else:
            place = rng.randrange(len(foreign))
            yield foreign[:place] + rng.choice("0aZ_-~") + foreign[place + 1 :]


def contents(sessions: Sessions, platform: Platform) -> dict[str, list[str]]:
    """Every row of a platform, as text."""
    with sessions() as session:
        present = set(session.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")))
        found = {}
        for table in sorted(present & set(TABLES)):
            owner = "platform_id = :id"
            if table in ("submissions", "feedback"):
                owner = "screening_id IN (SELECT id FROM screenings WHERE platform_id = :id)"
            rows = session.scalars(text(f"SELECT t::text FROM {table} t WHERE {owner} ORDER BY 1"), {"id": platform.id})
            found[table] = list(rows)
    return found


async def test_no_route_admits_that_a_foreign_thing_exists_and_none_changes_it(
    app: FastAPI, client: httpx.AsyncClient, sessions: Sessions, sides: tuple[Side, Side], rng: random.Random
) -> None:
    mine, theirs = sides
    with sessions.begin() as session:  # a fuzz is over any rate
        session.execute(text("UPDATE platforms SET rate_per_second = 100000, burst = 1000000"))
    client.headers["Authorization"] = f"Bearer {mine.key}"
    before = contents(sessions, theirs.platform)
    assert min(len(rows) for table, rows in before.items() if table != "feedback") > 0
    tried = 0
    for method, path, operation in routes(app):
        parameters = [name for name in named(path) if name not in NUMBERS]
        if not parameters or path.startswith(SESSIONS):
            continue
        assert len(parameters) == 1, f"say how to fuzz {path}"
        [parameter] = parameters
        body = BODIES.get(f"{method} {path}")
        assert body is not None or "requestBody" not in operation, f"add a body for {method} {path}"
        for id in guesses(rng, mine.ids[parameter], theirs.ids[parameter]):
            url = path.format(**{parameter: id, **NUMBERS})
            answer = await client.request(method, url, json=body, headers=TOKEN)
            if (method, url.rstrip("/")) == (method, path.partition("{")[0].rstrip("/")):
                continue
            assert answer.status_code in (404, 405), (method, url, answer.status_code, answer.text)
            tried += 1
        unknown = path.format(**{parameter: f"{theirs.ids[parameter][:4]}{uuid7().hex}", **NUMBERS})
        foreign = path.format(**{parameter: theirs.ids[parameter], **NUMBERS})
        answers = [await client.request(method, url, json=body, headers=TOKEN) for url in (unknown, foreign)]
        for answer in answers:
            assert_problem(answer, 404, "not_found")
        assert answers[0].json()["detail"] == answers[1].json()["detail"]  # nothing tells the two apart
    assert tried > 20 * GUESSES
    assert contents(sessions, theirs.platform) == before


async def test_a_thing_of_ones_own_is_found_on_the_same_routes(
    app: FastAPI, client: httpx.AsyncClient, sides: tuple[Side, Side]
) -> None:
    """Without this the test above would pass where everything is a 404."""
    mine, _ = sides
    client.headers["Authorization"] = f"Bearer {mine.key}"
    for method, path, _ in routes(app):
        parameters = [name for name in named(path) if name not in NUMBERS]
        if method != "GET" or not parameters or "corrections" in path:
            continue  # nobody has corrected a mask here
        answer = await client.get(path.format(**{parameters[0]: mine.ids[parameters[0]]}))
        undecided = answer.status_code == 409 and path.endswith("/evidence")
        assert answer.status_code in (200, 307) or undecided, (path, answer.text)


async def test_lists_filters_and_cursors_give_nothing_foreign(
    app: FastAPI, client: httpx.AsyncClient, sessions: Sessions, settings: Settings, sides: tuple[Side, Side]
) -> None:
    mine, theirs = sides
    furnish_more = [furnish(sessions, settings, "theirs-too") for _ in range(1)]
    foreign = {id for side in (theirs, *furnish_more) for id in side.ids.values()}
    for method, path, operation in routes(app):
        query = {p["name"] for p in operation.get("parameters", []) if p["in"] == "query"}
        if method != "GET" or named(path) or "limit" not in query:
            continue
        client.headers["Authorization"] = f"Bearer {theirs.key}"
        cursor = await a_cursor(client, path)
        client.headers["Authorization"] = f"Bearer {mine.key}"
        answer = await client.get(path, params={"limit": 200})
        assert answer.status_code == 200, (path, answer.text)
        assert not [id for id in foreign if id in answer.text], path
        if cursor is not None:
            refused = await client.get(path, params={"cursor": cursor})
            assert_problem(refused, 400, "invalid_cursor")


async def a_cursor(client: httpx.AsyncClient, path: str) -> str | None:
    """A cursor of a list that has a second page, or None."""
    answer = await client.get(path, params={"limit": 1})
    cursor: str | None = answer.json().get("next_cursor")
    return cursor


def pages() -> Iterator[tuple[str, str]]:
    """Every page that names a platform's thing, with what its other parameters may be."""
    for router in page_routers.ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            for method in sorted((route.methods or set()) - {"HEAD"}):
                for filled in PARTS.get(route.path, [route.path]):
                    if named(filled) and not route.path.startswith("/static"):
                        yield method, filled


PARTS = {
    "/webhooks/{endpoint_id}/{action}": [
        f"/webhooks/{{endpoint_id}}/{action}" for action in ("test", "rotate", "enable", "disable", "delete")
    ],
    "/screenings/{screening_id}/{part}.bytes": [
        f"/screenings/{{screening_id}}/{part}.bytes" for part in ("overlay", "mask", "heatmap")
    ],
    # A version counts within the platform that is named beside it: test_foreign_parameters.py.
    "/policy/versions/{version}": [],
}


async def test_no_page_admits_that_a_foreign_thing_exists_and_none_changes_it(
    app: FastAPI, sessions: Sessions, sides: tuple[Side, Side], rng: random.Random
) -> None:
    """For somebody who administers one platform and has no grant on the other."""
    mine, theirs = sides
    person = reviewer(sessions, mine.platform, role=Role.ADMIN)
    before = contents(sessions, theirs.platform)
    found = list(pages())
    assert len(found) >= 10
    async with browser(app) as client:
        await client.enter(sessions, person)
        for method, path in found:
            [parameter] = named(path)
            if method == "GET":
                own = await client.get(path.format(**{parameter: mine.ids[parameter]}))
                assert own.status_code in (200, 303), (path, own.status_code)
            for id in guesses(rng, mine.ids[parameter], theirs.ids[parameter]):
                answer = await client.send(method, path.format(**{parameter: id}))
                assert answer.status_code in (404, 405), (method, path, id, answer.status_code)
                assert theirs.platform.name not in answer.text
        for method, path, _ in routes(app):
            if "{review_id}" in path:
                url = path.format(review_id=theirs.ids["review_id"], **NUMBERS)
                body = BODIES.get(f"{method} {path}")
                answer = await client.send(method, url, json=body, headers={"X-CSRF-Token": client.csrf, **TOKEN})
                assert_problem(answer, 404, "not_found")
    assert contents(sessions, theirs.platform) == before


async def test_an_idempotency_key_of_the_other_platform_is_ones_own_to_use(
    client: httpx.AsyncClient, sides: tuple[Side, Side]
) -> None:
    mine, theirs = sides
    answers = []
    for side in (theirs, mine):
        client.headers["Authorization"] = f"Bearer {side.key}"
        answers.append(
            await client.post(
                "/v1/webhook-endpoints", json={"url": "https://example.com/x"}, headers={"Idempotency-Key": "same"}
            )
        )
    assert [a.status_code for a in answers] == [201, 201]
    assert answers[0].json()["id"] != answers[1].json()["id"]
    assert answers[0].json()["secret"] != answers[1].json()["secret"]


def test_events_of_one_platform_never_become_deliveries_of_another(
    sessions: Sessions, sides: tuple[Side, Side]
) -> None:
    mine, theirs = sides
    for side in sides:
        reviewing.screened(sessions, side.platform)
    with sessions() as session:
        mixed = text(
            "SELECT count(*) FROM deliveries d"
            "  JOIN events v ON v.id = d.event_id JOIN endpoints e ON e.id = d.endpoint_id"
            " WHERE v.platform_id <> e.platform_id OR d.platform_id <> e.platform_id"
        )
        assert session.scalar(mixed) == 0
        assert {row.platform_id for row in session.scalars(select(Delivery))} == {mine.platform.id, theirs.platform.id}
