"""Two platforms against each other beside the path: whatever names a thing in a query, a body or a form is one's own.

And nothing is left out: every route of the application is one that these tests, or those of paths, walk through.
"""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy.orm import Session, sessionmaker
from starlette.routing import Route

from api import routes as api_routers
from api.pages import routes as page_routers
from screening.actors import Role
from screening.ids import Prefix, encode
from tests.browsing import browser, reviewer
from tests.fuzz.test_foreign_platforms import BODIES, PARTS, Side, contents, named, routes, sides
from tests.problems import assert_problem

__all__ = ["sides"]  # the fixture

Sessions = sessionmaker[Session]

POLICY: dict[str, Any] = {"rules": [], "otherwise": "block"}
# What each route that asks `?platform=` is sent beside it. A new one that takes a body has to be added here.
WITH_PLATFORM: dict[str, Any] = {
    "PUT /v1/policy": POLICY,
    "PUT /v1/policy/shadow": POLICY,
    "POST /v1/policy/backtest": {"document": POLICY},
    "PUT /v1/policy/kill-switch": {"engaged": True, "reason": "It is theirs."},
}
# Fields of bodies that name a thing: the body that names a foreign one.
THINGS = {"platform", "screening", "review", "image", "endpoint", "delivery", "event", "cluster", "finding", "decision"}
NAMING: dict[str, Any] = {
    "POST /v1/goldens": {"screening": "{screening_id}", "truth": "fake"},
    "POST /v1/reviews/claim": {"platform": "{platform_id}"},
}
# Filters by what the other platform has: found nothing, as if it did not exist.
FILTERS = {"subject": "{screening_id}", "client_ref": "theirs", "queue": "theirs"}
FORMS = {"POST /webhooks": {"url": "https://example.com/x"}}
# Pages that show nothing of the platform they name: the browser asks the API with it.
SHELLS = {"/review", "/reviews/{review_id}"}
# Signing in through the operator's identity provider comes before any platform.
BEFORE_ANY_PLATFORM = {"/signin/oidc", "/signin/oidc/callback"}


def platform_id(side: Side) -> str:
    return encode(Prefix.PLATFORM, side.platform.id)


def filled(value: Any, side: Side) -> Any:
    """A body with the side's ids in it."""
    if isinstance(value, dict):
        return {name: filled(inner, side) for name, inner in value.items()}
    return value.format(**side.ids, platform_id=platform_id(side)) if isinstance(value, str) else value


def query(operation: dict[str, Any]) -> set[str]:
    return {p["name"] for p in operation.get("parameters", []) if p["in"] == "query"}


def fields(app: FastAPI, operation: dict[str, Any]) -> set[str]:
    """The names of a JSON body's fields."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = content.get("schema", {})
    if "$ref" in schema:
        schema = app.openapi()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return set(schema.get("properties", {}))


def test_every_route_is_one_that_the_fuzz_walks_through(app: FastAPI) -> None:
    included = [getattr(route, "original_router", None) for route in app.routes]
    apart = [route for route in app.routes if getattr(route, "original_router", None) is None]
    assert [route.path for route in apart if isinstance(route, Route)] == ["/openapi.json"]
    assert len(apart) == 1
    assert [r for r in included if r is not None] == [*api_routers.ROUTERS, *page_routers.ROUTERS]
    described = {(method, path) for method, path, _ in routes(app)}
    for router in api_routers.ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            hidden = {(m, route.path) for m in route.methods or ()} - described
            assert not hidden or route.path in BEFORE_ANY_PLATFORM, route.path


async def test_no_query_and_no_body_reaches_into_the_other_platform(
    app: FastAPI, client: httpx.AsyncClient, sessions: Sessions, sides: tuple[Side, Side]
) -> None:
    mine, theirs = sides
    client.headers["Authorization"] = f"Bearer {mine.key}"
    before = contents(sessions, theirs.platform)
    reached = []
    for method, path, operation in routes(app):
        name = f"{method} {path}"
        url = path.format(**dict.fromkeys(named(path), "1"))
        if "platform" in query(operation):
            body = WITH_PLATFORM.get(name)
            assert body is not None or "requestBody" not in operation, f"add a body for {name}"
            answer = await client.request(method, f"{url}?platform={platform_id(theirs)}", json=body)
            assert_problem(answer, 404, "not_found")
            reached.append(name)
        if fields(app, operation) & THINGS:
            assert name in NAMING, f"say which body of {name} names a foreign thing"
            assert_problem(await client.request(method, url, json=filled(NAMING[name], theirs)), 404, "not_found")
            reached.append(name)
    assert {"GET /v1/audit", "PUT /v1/policy/kill-switch", "POST /v1/goldens"} <= set(reached)
    assert contents(sessions, theirs.platform) == before


async def test_filters_by_what_the_other_platform_has_find_nothing_of_it(
    app: FastAPI, client: httpx.AsyncClient, sides: tuple[Side, Side]
) -> None:
    mine, theirs = sides
    client.headers["Authorization"] = f"Bearer {mine.key}"
    foreign = set(theirs.ids.values())
    tried = 0
    for method, path, operation in routes(app):
        if method != "GET" or named(path):
            continue
        for parameter in query(operation) & set(FILTERS):
            answer = await client.get(path, params={parameter: filled(FILTERS[parameter], theirs)})
            assert answer.status_code == 200, (path, answer.text)
            assert not [id for id in foreign if id in answer.text], path
            tried += 1
    assert tried >= 3


def asking_for_a_platform() -> Iterator[tuple[str, str, bool]]:
    """Every page that takes a `platform`: method, path, and whether in a form."""
    for router in page_routers.ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            for method in sorted((route.methods or set()) - {"HEAD"}):
                for parameters, form in ((route.dependant.query_params, False), (route.dependant.body_params, True)):
                    if "platform" in {p.name for p in parameters}:
                        yield method, route.path, form


async def test_no_page_shows_or_changes_the_platform_that_it_is_asked_for_without_a_grant(
    app: FastAPI, sessions: Sessions, sides: tuple[Side, Side]
) -> None:
    mine, theirs = sides
    person = reviewer(sessions, mine.platform, role=Role.ADMIN)
    before = contents(sessions, theirs.platform)
    found = [asked for asked in asking_for_a_platform() if asked[1] not in SHELLS]
    assert len(found) >= 5
    async with browser(app) as client:
        await client.enter(sessions, person)
        for method, path, form in found:
            url = path.format(**dict.fromkeys(named(path), "1"))
            for side, status in ((mine, 200), (theirs, 404)):
                asked = {"platform": platform_id(side)}
                if form:
                    answer = await client.send(method, url, data={**FORMS[f"{method} {path}"], **asked})
                else:
                    answer = await client.send(method, url, params=asked)
                assert answer.status_code == status, (method, path, answer.status_code)
            assert theirs.platform.name not in answer.text
        for path in SHELLS:
            answer = await client.get(filled(path, mine), params={"platform": platform_id(theirs)})
            assert answer.status_code == 200, path
            assert theirs.platform.name not in answer.text
    assert contents(sessions, theirs.platform) == before


@pytest.mark.parametrize("table", [BODIES, WITH_PLATFORM, NAMING])
def test_the_tables_of_these_tests_name_routes_that_exist(app: FastAPI, table: dict[str, Any]) -> None:
    assert set(table) <= {f"{method} {path}" for method, path, _ in routes(app)}
    assert set(PARTS) <= {r.path for router in page_routers.ROUTERS for r in router.routes if isinstance(r, APIRoute)}
