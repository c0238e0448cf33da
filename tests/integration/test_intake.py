"""Sending an image: what is accepted, what is refused, and what is stored either way."""

import hashlib
import json
from pathlib import Path

import httpx
import pytest
from PIL import Image
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from screening.settings import Settings
from screening.tables import Screening, Submission
from tests import pictures
from tests.problems import assert_problem

Sessions = sessionmaker[Session]
URL = "/v1/screenings"


def form(content: bytes, name: str = "photo.jpg") -> dict[str, tuple[str, bytes]]:
    return {"image": (name, content)}


def blobs(settings: Settings) -> list[Path]:
    return [path for path in Path(settings.blob_url.removeprefix("file://")).rglob("*") if path.is_file()]


async def test_an_image_is_accepted_stored_and_readable(client: httpx.AsyncClient, settings: Settings) -> None:
    content = pictures.jpeg(640, 480)
    answer = await client.post(
        URL, files=form(content), data={"client_ref": "post-991", "metadata": '{"a": [1]}', "priority": "high"}
    )
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert answer.headers["location"] == body["links"]["self"]
    assert int(answer.headers["retry-after"]) > 0
    assert (body["state"], body["client_ref"], body["metadata"]) == ("queued", "post-991", {"a": [1]})
    assert (body["priority"], body["attempt"], body["verdict"]) == ("high", 0, None)
    assert body["image"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert (body["image"]["format"], body["image"]["width"], body["image"]["height"]) == ("jpeg", 640, 480)
    assert (await client.get(answer.headers["location"])).json() == body
    assert [path.read_bytes() for path in blobs(settings)] == [content]


@pytest.mark.parametrize("orientation", range(1, 9))
async def test_width_and_height_are_upright(client: httpx.AsyncClient, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    answer = await client.post(URL, files=form(pictures.jpeg(64, 48, exif=exif)))
    image = answer.json()["image"]
    assert (image["width"], image["height"]) == ((48, 64) if orientation >= 5 else (64, 48))
    assert image["orientation_applied"] is (orientation > 1)


async def test_a_source_is_accepted_without_bytes(client: httpx.AsyncClient, sessions: Sessions) -> None:
    answer = await client.post(URL, json={"source": {"url": "https://example.com/a.jpg"}, "metadata": {"k": "v"}})
    assert answer.status_code == 202, answer.text
    assert answer.json()["image"] is None
    with sessions() as session:
        [submission] = session.scalars(select(Submission))
    assert (submission.source, submission.details) == ({"url": "https://example.com/a.jpg"}, {"k": "v"})


async def test_without_a_key_nothing_is_read(client: httpx.AsyncClient) -> None:
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}):
        answer = await client.post(URL, files=form(b"x"), headers=headers)
        assert_problem(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_routes_that_do_not_exist_are_problems_too(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/v1/nothing"), 404, "not_found")
    answer = await client.put(URL)
    assert_problem(answer, 405, "method_not_allowed")
    assert "POST" in answer.headers["allow"]


async def test_the_same_key_and_body_replay_the_answer(client: httpx.AsyncClient, sessions: Sessions) -> None:
    content = pictures.jpeg()
    first = await client.post(URL, files=form(content), headers={"Idempotency-Key": '"k1"'})
    second = await client.post(URL, files=form(content), headers={"Idempotency-Key": "k1"})
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["location"] == first.headers["location"]
    other = await client.post(URL, files=form(pictures.png()), headers={"Idempotency-Key": "k1"})
    assert_problem(other, 422, "idempotency_key_reused")
    with sessions() as session:
        assert len(list(session.scalars(select(Screening)))) == 1


async def test_fields_that_are_wrong_are_named_by_pointer(client: httpx.AsyncClient, settings: Settings) -> None:
    answer = await client.post(
        URL, files=form(pictures.jpeg()), data={"priority": "urgent", "metadata": json.dumps({"k": "x" * 5000})}
    )
    assert_problem(answer, 422, "invalid_request")
    assert {error["pointer"] for error in answer.json()["errors"]} == {"#/priority", "#/metadata"}
    assert blobs(settings) == []


async def test_ready_says_what_it_depends_on(client: httpx.AsyncClient) -> None:
    answer = await client.get("/readyz")
    assert answer.status_code == 200, answer.text
    assert answer.json()["checks"] == {"database": "ok", "migrations": "ok", "blobs": "ok", "redis": "ok"}
