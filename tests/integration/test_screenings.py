"""Reading, listing, judging, keeping and erasing screenings, each platform its own."""

import asyncio
import io
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from screening import api_keys, jobs, platforms
from screening.api_keys import Scope
from screening.blobs import BlobStore, open_store
from screening.settings import Settings
from screening.tables import AuditEntry, Event, Feedback, Platform
from tests import outcomes, pictures
from tests.findings import intake
from tests.problems import assert_problem

Sessions = sessionmaker[Session]
URL = "/v1/screenings"


@pytest.fixture
def store(settings: Settings) -> BlobStore:
    return open_store(settings.blob_url)


@pytest.fixture
async def stranger(app: FastAPI, sessions: Sessions) -> AsyncIterator[httpx.AsyncClient]:
    """A client of another platform."""
    with sessions.begin() as session:
        key = api_keys.create(session, platforms.create(session, "other").id, frozenset(Scope))
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://testserver", headers=headers
    ) as made:
        yield made


async def send(client: httpx.AsyncClient, content: bytes | None = None, **fields: str) -> str:
    answer = await client.post(URL, files={"image": ("a.jpg", content or pictures.jpeg())}, data=fields)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def finished(
    client: httpx.AsyncClient, sessions: Sessions, store: BlobStore, content: bytes | None = None
) -> str:
    id = await send(client, content)
    [held] = outcomes.claim(sessions)
    outcomes.succeed(sessions, store, held)
    return id


SUB_ROUTES = [
    ("GET", ""), ("GET", "/image"), ("GET", "/mask"), ("GET", "/heatmap"), ("GET", "/overlay"), ("DELETE", ""),
    ("PUT", "/legal-hold"), ("DELETE", "/legal-hold"), ("POST", "/feedback"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), SUB_ROUTES)
async def test_foreign_unknown_and_malformed_ids_look_alike(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, sessions: Sessions, store: BlobStore, method: str, path: str
) -> None:
    foreign = await finished(client, sessions, store)
    body = {"truth": "fake"} if path == "/feedback" else None
    answers = [
        await stranger.request(method, f"{URL}/{id}{path}", json=body)
        for id in (foreign, f"scr_{'0' * 32}", "scr_nothing", "%00", "img_" + foreign[4:])
    ]
    for answer in answers:
        assert_problem(answer, 404, "not_found")
    assert len({answer.json()["detail"] for answer in answers}) == 1


async def test_a_page_leads_to_the_next_and_no_row_is_seen_twice(
    client: httpx.AsyncClient, sessions: Sessions, platform: Platform
) -> None:
    with sessions.begin() as session:  # one transaction, hence one creation time: the id must break the tie
        sent = {jobs.enqueue(session, intake(platform.id)).id.hex for _ in range(25)}
    seen: list[str] = []
    url: str | None = f"{URL}?limit=10"
    sizes = []
    while url is not None:
        answer = await client.get(url)
        rows = answer.json()["data"]
        sizes.append(len(rows))
        seen += [row["id"].removeprefix("scr_") for row in rows]
        url = answer.links.get("next", {}).get("url")
    assert sizes == [10, 10, 5]
    assert len(seen) == len(set(seen))
    assert set(seen) == sent
    assert seen == sorted(seen, reverse=True)


async def test_a_cursor_opens_only_the_list_it_was_given_out_for(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    for _ in range(3):
        await send(client)
    cursor = (await client.get(URL, params={"limit": 1, "state": "queued"})).json()["next_cursor"]
    assert (await client.get(URL, params={"limit": 2, "state": "queued", "cursor": cursor})).status_code == 200
    tampered = ("A" if cursor[0] != "A" else "B") + cursor[1:]
    for who, params in (
        (client, {"cursor": cursor}),
        (client, {"state": "failed", "cursor": cursor}),
        (client, {"state": "queued", "cursor": tampered}),
        (client, {"state": "queued", "cursor": "!"}),
        (client, {"state": "queued", "cursor": ""}),
        (stranger, {"state": "queued", "cursor": cursor}),
    ):
        assert_problem(await who.get(URL, params=params), 400, "invalid_cursor")


async def test_filters_find_what_they_name(client: httpx.AsyncClient, sessions: Sessions, store: BlobStore) -> None:
    content = pictures.png(20, 20)
    low = await send(client, content, client_ref="low")
    [held] = outcomes.claim(sessions)
    outcomes.succeed(sessions, store, held, label="authentic", score=0.1)
    high = await send(client, client_ref="high")
    [held] = outcomes.claim(sessions)
    outcomes.succeed(sessions, store, held, label="fake", score=0.9)
    waiting = await send(client, client_ref="waiting")
    created_at = (await client.get(f"{URL}/{high}")).json()["created_at"]
    digest = (await client.get(f"{URL}/{low}")).json()["image"]["sha256"]

    async def found(**params: str) -> list[str]:
        answer = await client.get(URL, params=params)
        assert answer.status_code == 200, answer.text
        return [row["id"] for row in answer.json()["data"]]

    assert await found() == [waiting, high, low]
    assert await found(state="queued") == [waiting]
    assert await found(state="succeeded") == [high, low]
    assert await found(label="fake") == [high]
    assert await found(min_score="0.5") == [high]
    assert await found(max_score="0.5") == [low]
    assert await found(min_score="0.95") == []
    assert await found(client_ref="waiting") == [waiting]
    assert await found(sha256=digest.upper()) == [low]
    assert await found(label="authentic", max_score="0.2", state="succeeded", sha256=digest) == [low]
    assert await found(created_before=created_at) == [low]
    assert (await found(created_after=created_at))[0] == waiting


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "state=done", "min_score=2", "min_score=nan", "sha256=xyz", "client_ref=%00",
     "created_after=2026-01-01T00:00:00", "created_after=never", "stat=queued"],
)  # fmt: skip
async def test_filters_that_make_no_sense_are_named(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.get(f"{URL}?{query}")
    assert_problem(answer, 422, "invalid_request")
    assert answer.json()["errors"][0]["pointer"].startswith(f"#/query/{query.partition('=')[0]}")


async def test_bytes_come_with_an_etag_and_are_not_sent_twice(
    client: httpx.AsyncClient, sessions: Sessions, store: BlobStore
) -> None:
    content = pictures.jpeg(64, 48)
    id = await finished(client, sessions, store, content)
    body = (await client.get(f"{URL}/{id}")).json()
    image = await client.get(body["links"]["image"])
    assert image.content == content
    assert image.headers["content-type"] == "image/jpeg"
    assert image.headers["etag"] == f'"{body["image"]["sha256"]}"'
    for part in ("mask", "heatmap"):
        answer = await client.get(body["links"][part])
        assert answer.headers["etag"] == f'"{body["localization"][part]["sha256"]}"'
        assert Image.open(io.BytesIO(answer.content)).size == (64, 48)
    for part in ("image", "mask", "heatmap", "overlay"):
        first = await client.get(body["links"][part])
        assert "private" in first.headers["cache-control"]
        again = await client.get(body["links"][part], headers={"If-None-Match": f'"x", W/{first.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]


@pytest.mark.parametrize("kind", ["rgb", "rgba", "grey16", "palette", "cmyk", "turned"])
async def test_an_overlay_shows_the_heat_where_it_is(
    client: httpx.AsyncClient, sessions: Sessions, store: BlobStore, kind: str
) -> None:
    content = {
        "rgb": lambda: pictures.png(),
        "rgba": lambda: pictures.encode(Image.new("RGBA", (64, 48), (0, 0, 0, 0)), "PNG"),
        "grey16": lambda: pictures.encode(Image.new("I;16", (64, 48), 30000), "PNG"),
        "palette": lambda: pictures.encode(pictures.gradient().convert("P"), "GIF"),
        "cmyk": lambda: pictures.encode(pictures.gradient(mode="CMYK"), "JPEG"),
        "turned": lambda: pictures.jpeg(48, 64, exif=_orientation(6)),
    }[kind]()
    id = await finished(client, sessions, store, content)
    answer = await client.get(f"{URL}/{id}/overlay")
    assert answer.status_code == 200, answer.text
    drawn = Image.open(io.BytesIO(answer.content))
    assert (drawn.format, drawn.size) == ("JPEG", (64, 48))
    red, green, _ = drawn.resize((1, 1), box=(12, 12, 28, 20)).getpixel((0, 0))  # type: ignore[misc]
    assert red > green + 40


def _orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


async def test_an_overlay_that_cannot_be_drawn_costs_only_itself(
    client: httpx.AsyncClient, sessions: Sessions, store: BlobStore
) -> None:
    id = await finished(client, sessions, store, pictures.png(640, 480)[:300])
    assert_problem(await client.get(f"{URL}/{id}/overlay"), 500, "overlay_failed")
    assert (await client.get(f"{URL}/{id}/mask")).status_code == 200


async def test_what_is_not_there_yet_is_said_so(client: httpx.AsyncClient) -> None:
    id = (await client.post(URL, json={"source": {"url": "https://example.com/a.png"}})).json()["id"]
    for part in ("image", "mask", "heatmap", "overlay"):
        assert_problem(await client.get(f"{URL}/{id}/{part}"), 404, "not_ready")


async def test_erasing_removes_bytes_words_and_access(
    client: httpx.AsyncClient, sessions: Sessions, store: BlobStore
) -> None:
    content = pictures.jpeg(64, 48)
    answer = await client.post(
        URL, files={"image": ("anna.jpg", content)}, data={"client_ref": "anna", "metadata": '{"who": "anna"}'},
        headers={"Idempotency-Key": "k"},
    )  # fmt: skip
    id = answer.json()["id"]
    [held] = outcomes.claim(sessions)
    outcomes.succeed(sessions, store, held)
    await client.get(f"{URL}/{id}/overlay")
    await client.post(f"{URL}/{id}/feedback", json={"truth": "fake", "note": "anna says so"})
    assert (await client.delete(f"{URL}/{id}")).status_code == 204
    assert list(store.keys("")) == []
    for path in ("", "/image", "/mask", "/heatmap", "/overlay"):
        assert_problem(await client.get(f"{URL}/{id}{path}"), 410, "erased")
    assert_problem(await client.post(f"{URL}/{id}/feedback", json={"truth": "fake"}), 410, "erased")
    assert (await client.delete(f"{URL}/{id}")).status_code == 204
    assert (await client.get(URL)).json()["data"] == []
    with sessions() as session:
        tables = session.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).all()
        for table in tables:
            assert not session.scalar(text(f"SELECT count(*) FROM {table} t WHERE t::text LIKE '%anna%'")), table
        assert [entry.action for entry in session.scalars(select(AuditEntry))][-1] == "screening.erased"


async def test_erasing_a_running_screening_fences_its_worker(
    client: httpx.AsyncClient, sessions: Sessions, store: BlobStore
) -> None:
    id = await send(client)
    [held] = outcomes.claim(sessions)
    assert (await client.delete(f"{URL}/{id}")).status_code == 204
    with pytest.raises(AssertionError):
        outcomes.succeed(sessions, store, held)
    with sessions() as session:
        [event] = session.scalars(select(Event))
    assert (event.type, event.data["error"]["code"], event.data["image"]) == ("screening.failed", "erased", None)


async def test_a_legal_hold_outranks_erasing(client: httpx.AsyncClient, sessions: Sessions, store: BlobStore) -> None:
    id = await finished(client, sessions, store)
    for _ in range(2):
        assert (await client.put(f"{URL}/{id}/legal-hold")).status_code == 204
    assert_problem(await client.delete(f"{URL}/{id}"), 409, "legal_hold")
    assert (await client.get(f"{URL}/{id}/image")).status_code == 200
    assert (await client.delete(f"{URL}/{id}/legal-hold")).status_code == 204
    assert (await client.delete(f"{URL}/{id}")).status_code == 204
    with sessions() as session:
        actions = [entry.action for entry in session.scalars(select(AuditEntry).order_by(AuditEntry.sequence))]
    assert actions[-3:] == ["screening.held", "screening.hold_lifted", "screening.erased"]


async def test_feedback_is_kept_once_for_each_key(client: httpx.AsyncClient, sessions: Sessions) -> None:
    id = await send(client)
    url, body = f"{URL}/{id}/feedback", {"truth": "fake", "note": "seen it before"}
    first = await client.post(url, json=body, headers={"Idempotency-Key": "a"})
    again = await client.post(url, json=body, headers={"Idempotency-Key": "a"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert first.json()["screening_id"] == id
    for wrong, pointer in (({"truth": "maybe"}, "#/truth"), ({"truth": "fake", "x": 1}, "#/x"), ({}, "#/truth")):
        answer = await client.post(url, json=wrong)
        assert_problem(answer, 422, "invalid_request")
        assert answer.json()["errors"][0]["pointer"] == pointer
    assert_problem(
        await client.post(url, content=b"{", headers={"Content-Type": "application/json"}), 400, "malformed_request"
    )
    assert_problem(await client.post(url, json={"truth": "fake", "note": "\0"}), 422, "invalid_request")
    with sessions() as session:
        assert len(list(session.scalars(select(Feedback)))) == 1


SCOPES = [
    ("GET", "", Scope.READ), ("GET", "/x", Scope.READ), ("GET", "/x/mask", Scope.READ), ("POST", "", Scope.WRITE),
    ("DELETE", "/x", Scope.WRITE), ("POST", "/x/feedback", Scope.WRITE), ("PUT", "/x/legal-hold", Scope.ADMIN),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "needed"), SCOPES)
async def test_a_key_without_the_scope_is_refused(
    client: httpx.AsyncClient, sessions: Sessions, platform: Platform, method: str, path: str, needed: Scope
) -> None:
    with sessions.begin() as session:
        key = api_keys.create(session, platform.id, frozenset(Scope) - {needed})
    answer = await client.request(
        method,
        URL + path,
        headers={"Authorization": f"Bearer {key}"},
        json={"truth": "fake"} if method == "POST" else None,
    )
    assert_problem(answer, 403, "forbidden")
    assert f'scope="{needed}"' in answer.headers["www-authenticate"]


async def test_waiting_answers_as_soon_as_the_screening_has_ended(
    client: httpx.AsyncClient, sessions: Sessions, store: BlobStore
) -> None:
    files = {"image": ("a.jpg", pictures.jpeg())}
    async with asyncio.TaskGroup() as group:
        waiting = [
            group.create_task(client.post(URL, files=files, headers={"Prefer": "respond-async, wait=25"}))
            for _ in range(20)
        ]
        done = 0
        async with asyncio.timeout(20):
            while done < 20:
                for held in await asyncio.to_thread(outcomes.claim, sessions):
                    await asyncio.to_thread(outcomes.succeed, sessions, store, held)
                    done += 1
                await asyncio.sleep(0.05)
    for task in waiting:
        answer = task.result()
        assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
        assert answer.headers["preference-applied"] == "wait=25"


async def test_waiting_in_vain_is_answered_as_usual(client: httpx.AsyncClient) -> None:
    answer = await client.post(URL, files={"image": ("a.jpg", pictures.jpeg())}, headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert "preference-applied" not in answer.headers
