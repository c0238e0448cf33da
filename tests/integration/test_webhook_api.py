"""Webhooks over HTTP: endpoints, secrets shown once, the log, test events, replays."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker
from standardwebhooks import Webhook

from screening import api_keys, events, platforms
from screening.api_keys import Scope
from screening.settings import Settings
from screening.tables import Endpoint, IdempotencyRecord, Platform
from tests.problems import assert_problem
from tests.receiver import Reply, receiving
from worker.deliveries import sender

Sessions = sessionmaker[Session]
URL = "/v1/webhook-endpoints"
HOOK = "https://hooks.example.com/assay"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"webhook_allowed_ranges": "127.0.0.0/8", "webhook_endpoints_max": 5})


async def create(client: httpx.AsyncClient, url: str = HOOK, **fields: object) -> dict[str, Any]:
    answer = await client.post(URL, json={"url": url, **fields})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def happen(sessions: Sessions, platform: Platform, count: int = 1) -> None:
    for number in range(count):
        with sessions.begin() as session:
            events.emit(session, platform_id=platform.id, type="screening.completed", data={"number": number})


async def send(settings: Settings) -> None:
    await asyncio.to_thread(lambda: asyncio.run(sender.drain(settings)))


async def test_an_endpoint_is_created_with_a_secret_that_is_shown_once(
    client: httpx.AsyncClient, sessions: Sessions
) -> None:
    made = await create(client, types=["screening.failed", "screening.completed"], description="prod", ordered=True)
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert (made["types"], made["ordered"], made["enabled"]) == (
        ["screening.completed", "screening.failed"],
        True,
        True,
    )
    assert (await client.get(f"{URL}/{made['id']}")).json() == made
    assert (await client.get(URL)).json()["data"] == [made]
    with sessions() as session:
        assert secret.removeprefix("whsec_").encode() not in session.scalars(select(Endpoint)).one().secret


async def test_creating_twice_with_one_key_gives_one_endpoint_and_keeps_no_secret(
    client: httpx.AsyncClient, sessions: Sessions
) -> None:
    answers = [await client.post(URL, json={"url": HOOK}, headers={"Idempotency-Key": "one"}) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert answers[0].headers["cache-control"] == "no-store"
    with sessions() as session:
        [record] = session.scalars(select(IdempotencyRecord))
        assert "whsec_" not in str(record.body)


@pytest.mark.parametrize(
    "url",
    ["http://example.com/", "https://user:pass@example.com/", "ftp://example.com/x", "https://10.0.0.1/", "https://[::1]/",
     "https://169.254.169.254/", "not a url", "https://", "https://example.com/#x", "https://[64:ff9b::7f00:1]/", "https://xn--a/"],
)  # fmt: skip
async def test_a_url_that_nothing_would_be_sent_to_is_refused_at_once(
    client: httpx.AsyncClient, url: str, settings: Settings
) -> None:
    answer = await client.post(URL, json={"url": url})
    if url.startswith("http://"):  # decided when it is connected to, because ranges are allowed here
        assert answer.status_code == 201
        return
    assert_problem(answer, 422, "invalid_request")
    assert answer.json()["errors"][0]["pointer"] == "#/url"


async def test_unknown_types_and_fields_and_nulls_are_refused(client: httpx.AsyncClient) -> None:
    assert_problem(await client.post(URL, json={"url": HOOK, "types": ["no.such"]}), 422, "invalid_request")
    assert_problem(await client.post(URL, json={"url": HOOK, "secret": "mine"}), 422, "invalid_request")
    made = await create(client)
    for change in ({"url": None}, {"enabled": None}, {"types": None}, {"id": "x"}):
        assert_problem(await client.patch(f"{URL}/{made['id']}", json=change), 422, "invalid_request")


async def test_a_change_changes_what_it_names(client: httpx.AsyncClient) -> None:
    made = await create(client, description="old")
    url = f"{URL}/{made['id']}"
    changed = (await client.patch(url, json={"types": ["review.decided"], "description": None})).json()
    assert (changed["types"], changed["description"], changed["url"]) == (["review.decided"], None, HOOK)
    off = (await client.patch(url, json={"enabled": False})).json()
    assert (off["enabled"], off["disabled_reason"]) == (False, "platform")
    assert_problem(await client.post(f"{url}/test"), 409, "conflict")
    on = (await client.patch(url, json={"enabled": True})).json()
    assert (on["enabled"], on["disabled_reason"], on["disabled_at"]) == (True, None, None)
    assert (await client.delete(url)).status_code == 204
    assert_problem(await client.get(url), 404, "not_found")


async def test_there_is_a_limit_of_endpoints(client: httpx.AsyncClient) -> None:
    answers = [await client.post(URL, json={"url": HOOK}) for _ in range(6)]
    assert [a.status_code for a in answers] == [201] * 5 + [409]


async def test_endpoints_are_paged_without_loss_or_repetition(client: httpx.AsyncClient) -> None:
    ids = [(await create(client))["id"] for _ in range(5)]
    url, seen = f"{URL}?limit=2", []
    while url:
        answer = await client.get(url)
        seen += [row["id"] for row in answer.json()["data"]]
        url = answer.links.get("next", {}).get("url", "")
    assert seen == ids[::-1]


async def test_a_rotated_secret_signs_beside_the_old_one(
    client: httpx.AsyncClient, sessions: Sessions, platform: Platform, settings: Settings
) -> None:
    with receiving() as receiver:
        made = await create(client, receiver.url("/hook"))
        rotated = (await client.post(f"{URL}/{made['id']}/rotate-secret")).json()
        assert rotated["secret"] != made["secret"]
        assert rotated["previous_secret_until"] is not None
        happen(sessions, platform)
        await send(settings)
        [request] = receiver.seen("/hook")
    for secret in (made["secret"], rotated["secret"]):
        Webhook(secret).verify(request.body, request.headers)


async def test_the_log_tells_every_attempt_and_a_replay_sends_again(
    client: httpx.AsyncClient, sessions: Sessions, platform: Platform, settings: Settings
) -> None:
    answers = iter([Reply(500, body=b"oh no"), Reply(200, body=b"fine"), Reply(200)])
    with receiving() as receiver:
        made = await create(client, receiver.at("/hook", lambda _: next(answers)))
        queued = (await client.post(f"{URL}/{made['id']}/test")).json()
        assert (queued["type"], queued["state"], queued["attempts"]) == ("webhook.test", "pending", [])
        await send(settings)
        log = f"{URL}/{made['id']}/deliveries"
        [row] = (await client.get(log)).json()["data"]
        assert (row["state"], row["attempts"][0]["status"], row["attempts"][0]["response"]) == ("pending", 500, "oh no")
        assert row["next_attempt_at"] > row["attempts"][0]["started_at"]
        again = await client.post(f"/v1/deliveries/{row['id']}/replay")
        assert (again.status_code, again.json()["replay"], again.json()["event_id"]) == (202, 1, row["event_id"])
        await send(settings)
        assert [r["state"] for r in (await client.get(log, params={"state": "delivered"})).json()["data"]] == [
            "delivered"
        ]
        assert (await client.get(log, params={"type": "screening.failed"})).json()["data"] == []
        assert receiver.counts("/hook") == {row["event_id"]: 2}


async def test_a_time_range_is_replayed_once_and_paged(
    client: httpx.AsyncClient, sessions: Sessions, platform: Platform, settings: Settings
) -> None:
    happen(sessions, platform, 5)
    with receiving() as receiver:
        made = await create(client, receiver.url("/hook"))
        wanted = {"since": "2020-01-01T00:00:00Z", "undelivered_only": True}
        headers = {"Idempotency-Key": "range"}
        for _ in range(2):
            answer = await client.post(f"{URL}/{made['id']}/replay", json=wanted, headers=headers)
            assert (answer.status_code, answer.json()) == (202, {"object": "replay", "count": 5, "more": False})
        await send(settings)
        assert set(receiver.counts("/hook").values()) == {1}
        assert len(receiver.requests) == 5
        url, seen = f"{URL}/{made['id']}/deliveries?limit=2", []
        while url:
            page = await client.get(url)
            seen += [row["id"] for row in page.json()["data"]]
            url = page.links.get("next", {}).get("url", "")
        assert len(set(seen)) == len(seen) == 5
    backwards = {"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}
    assert_problem(await client.post(f"{URL}/{made['id']}/replay", json=backwards), 422, "invalid_request")


async def test_a_foreign_or_malformed_id_is_a_404_everywhere(
    client: httpx.AsyncClient, sessions: Sessions, platform: Platform
) -> None:
    made = await create(client)
    await client.post(f"{URL}/{made['id']}/test")
    [delivery] = (await client.get(f"{URL}/{made['id']}/deliveries")).json()["data"]
    with sessions.begin() as session:
        other = api_keys.create(session, platforms.create(session, "other").id, frozenset(Scope))
    client.headers["Authorization"] = f"Bearer {other}"
    span = {"since": "2020-01-01T00:00:00Z"}
    for id in (made["id"], "whe_" + "0" * 32, "whe_x", delivery["id"], "%00"):
        for method, path, body in [
            ("GET", "", None), ("PATCH", "", {"enabled": True}), ("DELETE", "", None), ("POST", "/test", None),
            ("POST", "/rotate-secret", None), ("GET", "/deliveries", None), ("POST", "/replay", span),
        ]:  # fmt: skip
            assert_problem(await client.request(method, f"{URL}/{id}{path}", json=body), 404, "not_found")
    assert_problem(await client.post(f"/v1/deliveries/{delivery['id']}/replay"), 404, "not_found")


async def test_a_key_that_may_only_read_changes_nothing(
    client: httpx.AsyncClient, sessions: Sessions, platform: Platform
) -> None:
    made = await create(client)
    with sessions.begin() as session:
        key = api_keys.create(session, platform.id, frozenset({Scope.READ}))
    client.headers["Authorization"] = f"Bearer {key}"
    assert (await client.get(URL)).status_code == 200
    assert_problem(await client.post(URL, json={"url": HOOK}), 403, "forbidden")
    assert_problem(await client.delete(f"{URL}/{made['id']}"), 403, "forbidden")
