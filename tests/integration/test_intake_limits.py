"""Rates, quotas, back-pressure, idempotency and storage that fails: what intake promises when things are not well."""

import asyncio
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from screening import api_keys, idempotency, jobs, platforms
from screening.api_keys import Scope
from screening.blobs.local import LocalStore
from screening.embedded import EmbeddedPostgres
from screening.errors import BlobStoreError
from screening.settings import Settings
from screening.tables import Event, IdempotencyRecord, Platform, Screening, Submission
from tests import pictures
from tests.findings import intake
from tests.problems import assert_problem

Sessions = sessionmaker[Session]
URL = "/v1/screenings"


async def send(client: httpx.AsyncClient, **headers: str) -> httpx.Response:
    return await client.post(URL, files={"image": ("a.jpg", pictures.jpeg())}, headers=headers)


def rows(sessions: Sessions) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(Screening)) or 0


def limit(sessions: Sessions, platform: Platform, **values: float | int) -> None:
    with sessions.begin() as session:
        row = session.get_one(Platform, platform.id)
        for name, value in values.items():
            setattr(row, name, value)


async def test_a_rate_is_announced_enforced_and_each_platforms_own(
    client: httpx.AsyncClient, sessions: Sessions, platform: Platform
) -> None:
    limit(sessions, platform, rate_per_second=0.1, burst=3)
    answers = [await client.get(URL) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[0].headers["ratelimit-policy"] == '"platform";q=3;w=30'
    assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=2", "r=1", "r=0", "r=0", "r=0"]
    assert_problem(answers[-1], 429, "rate_limited")
    assert 0 < int(answers[-1].headers["retry-after"]) <= 10
    with sessions.begin() as session:
        other = api_keys.create(session, platforms.create(session, "other").id, frozenset(Scope))
    assert (await client.get(URL, headers={"Authorization": f"Bearer {other}"})).status_code == 200


async def test_a_bucket_refills_with_time(client: httpx.AsyncClient, sessions: Sessions, platform: Platform) -> None:
    limit(sessions, platform, rate_per_second=0.1, burst=2)
    for _ in range(3):
        answer = await client.get(URL)
    assert answer.status_code == 429
    with sessions.begin() as session:
        session.execute(text("UPDATE rate_buckets SET refilled_at = refilled_at - interval '10 seconds'"))
    assert [(await client.get(URL)).status_code for _ in range(2)] == [200, 429]


async def test_requests_at_once_never_take_more_than_the_bucket_holds(
    client: httpx.AsyncClient, sessions: Sessions, platform: Platform
) -> None:
    limit(sessions, platform, rate_per_second=0.001, burst=7)
    answers = await asyncio.gather(*(client.get(URL) for _ in range(30)))
    assert Counter(answer.status_code for answer in answers) == {200: 7, 429: 23}


async def test_a_quota_bounds_what_waits_not_what_is_sent(
    client: httpx.AsyncClient, sessions: Sessions, platform: Platform
) -> None:
    limit(sessions, platform, max_queued=2)
    assert [(await send(client)).status_code for _ in range(2)] == [202, 202]
    assert_problem(await send(client), 429, "queue_quota_reached")
    with sessions.begin() as session:
        jobs.claim(session, limit=1, worker="w", lease=timedelta(minutes=1))
    assert (await send(client)).status_code == 202


async def test_a_queue_too_old_takes_no_more_but_answers_replays(
    client: httpx.AsyncClient, sessions: Sessions, platform: Platform, app: FastAPI
) -> None:
    first = await send(client, **{"Idempotency-Key": "k"})
    with sessions.begin() as session:
        session.execute(text("UPDATE screenings SET due_at = due_at - interval '1 hour'"))
    app.state.services.backpressure._read_at = float("-inf")
    answer = await send(client)
    assert_problem(answer, 503, "back_pressure")
    assert int(answer.headers["retry-after"]) > 0
    assert_problem(await send(client, **{"Idempotency-Key": "other"}), 503, "back_pressure")
    assert (await send(client, **{"Idempotency-Key": "k"})).json() == first.json()
    assert rows(sessions) == 1


async def test_of_many_at_once_with_one_key_one_does_the_work(client: httpx.AsyncClient, sessions: Sessions) -> None:
    answers = await asyncio.gather(*(send(client, **{"Idempotency-Key": "k"}) for _ in range(12)))
    for answer in answers:
        if answer.status_code == 409:
            assert_problem(answer, 409, "idempotency_key_in_use")
        else:
            assert answer.status_code == 202
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
    assert rows(sessions) == 1
    store: LocalStore = client._transport.app.state.services.blobs  # type: ignore[attr-defined]
    assert len(list(store.keys(""))) == 1


async def test_a_process_that_dies_holding_a_key_does_not_keep_it(
    client: httpx.AsyncClient, engine: Engine, platform: Platform
) -> None:
    held = idempotency.Request(platform.id, f"POST {URL}", "k", b"", 24)
    with engine.connect() as dying:
        with Session(dying) as session:
            with pytest.raises(RuntimeError, match="here"):
                idempotency.once(session, held, _die)
            assert_problem(await send(client, **{"Idempotency-Key": "k"}), 409, "idempotency_key_in_use")
            backend = session.scalar(text("SELECT pg_backend_pid()"))
            with psycopg.connect(engine.url.set(drivername="postgresql").render_as_string(False)) as other:
                other.execute("SELECT pg_terminate_backend(%s)", [backend])
            dying.invalidate()
        deadline = time.monotonic() + 10
        while (answer := await send(client, **{"Idempotency-Key": "k"})).status_code == 409:
            assert time.monotonic() < deadline
    assert answer.status_code == 202


def _die(session: Session) -> idempotency.Answer:
    raise RuntimeError("here")


async def test_keys_are_scoped_and_expire(client: httpx.AsyncClient, sessions: Sessions, platform: Platform) -> None:
    first = (await send(client, **{"Idempotency-Key": "k"})).json()["id"]
    url = f"{URL}/{first}/feedback"
    assert (await client.post(url, json={"truth": "fake"}, headers={"Idempotency-Key": "k"})).status_code == 201
    with sessions.begin() as session:
        other = api_keys.create(session, platforms.create(session, "other").id, frozenset(Scope))
    theirs = await send(client, **{"Idempotency-Key": "k", "Authorization": f"Bearer {other}"})
    assert theirs.json()["id"] != first
    with sessions.begin() as session:
        session.execute(text("UPDATE idempotency_records SET created_at = created_at - interval '25 hours'"))
    again = await send(client, **{"Idempotency-Key": "k"})
    assert again.json()["id"] != first
    with sessions.begin() as session:
        assert idempotency.purge(session, older_than=timedelta(hours=24)) == 2
        assert session.scalar(select(func.count()).select_from(IdempotencyRecord)) == 1


async def test_a_refused_request_does_not_use_up_its_key(client: httpx.AsyncClient) -> None:
    bad = await client.post(URL, files={"image": ("a", b"words")}, headers={"Idempotency-Key": "k"})
    assert_problem(bad, 415, "unsupported_format")
    assert (await send(client, **{"Idempotency-Key": "k"})).status_code == 202


async def test_traceparent_is_kept_where_it_is_valid(client: httpx.AsyncClient, sessions: Sessions) -> None:
    good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for given in (good, "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "nonsense"):
        assert (await send(client, traceparent=given)).status_code == 202
    with sessions() as session:
        kept = session.scalars(select(Submission.traceparent).order_by(Submission.screening_id)).all()
    assert kept == [good, None, None]


class FailingStore(LocalStore):
    """A disk that is full."""

    def put(self, key: str, data: bytes | BinaryIO, content_type: str = "") -> None:
        raise BlobStoreError("could not write: No space left on device")


async def test_a_blob_store_that_fails_is_a_503_and_no_row(
    settings: Settings, api_key: str, sessions: Sessions
) -> None:
    app = create_app(settings)
    object.__setattr__(app.state.services, "blobs", FailingStore(Path("/nonexistent")))
    headers = {"Authorization": f"Bearer {api_key}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t", headers=headers) as client:
        answer = await send(client)
        assert_problem(answer, 503, "unavailable")
        assert_problem(await client.get("/readyz"), 503, "unavailable")
    await app.state.services.close()
    assert rows(sessions) == 0


@pytest.fixture
def refusing_commits(engine: Engine) -> None:
    """The database refuses at the very commit, as a constraint or a full disk would."""
    with engine.begin() as connection:
        connection.execute(
            text("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE disk_full; END'")
        )
        connection.execute(
            text("CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON screenings DEFERRABLE INITIALLY DEFERRED"
                 " FOR EACH ROW EXECUTE FUNCTION refuse()")
        )  # fmt: skip


async def test_when_the_commit_fails_the_blob_goes_again(
    client: httpx.AsyncClient, app: FastAPI, sessions: Sessions, refusing_commits: None
) -> None:
    answer = await send(client)
    assert_problem(answer, 503, "unavailable")
    assert list(app.state.services.blobs.keys("")) == []
    assert rows(sessions) == 0


async def test_when_the_end_of_a_commit_is_not_heard_the_database_is_asked(
    client: httpx.AsyncClient, app: FastAPI, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks after the commit: the screening is there, so the client hears 202 and the blob stays."""
    run = app.state.services.database.run

    async def deaf(work, *args, **kwargs):  # type: ignore[no-untyped-def]
        answer = await run(work, *args, **kwargs)
        if work.__name__ == "_record":
            raise OperationalError("COMMIT", {}, psycopg.OperationalError("the connection is lost"))
        return answer

    monkeypatch.setattr(app.state.services.database, "run", deaf)
    answer = await send(client)
    assert answer.status_code == 202
    assert rows(sessions) == 1
    assert len(list(app.state.services.blobs.keys(""))) == 1


async def test_a_database_that_restarts_costs_503_and_nothing_else(settings: Settings, run_folder: Path) -> None:
    server = EmbeddedPostgres(run_folder / "restarting", "secret")
    server.start()
    try:
        url = server.create_database("assay")
        key = _prepare(url)
        app = create_app(settings.model_copy(update={"database_url": url}))
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://t", headers=headers
        ) as client:
            assert (await send(client)).status_code == 202
            await asyncio.to_thread(server.kill)
            answer = await send(client)
            assert_problem(answer, 503, "unavailable")
            assert "retry-after" in answer.headers
            app.state.readiness._asked_at = float("-inf")
            ready = await client.get("/readyz")
            assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "away")
            await asyncio.to_thread(server.start)
            assert (await send(client)).status_code == 202
            assert len((await client.get(URL)).json()["data"]) == 2
        await app.state.services.close()
    finally:
        server.stop()


def _prepare(url: str) -> str:
    from screening import migrate
    from screening.database import sync_engine

    engine = sync_engine(url)
    with engine.begin() as connection:
        migrate.upgrade(connection)
    with Session(engine) as session, session.begin():
        key = api_keys.create(session, platforms.create(session, "acme").id, frozenset(Scope))
    engine.dispose()
    return key


async def test_erased_while_it_waits_is_not_an_answer_with_content(
    client: httpx.AsyncClient, sessions: Sessions, platform: Platform
) -> None:
    with sessions.begin() as session:
        jobs.enqueue(session, intake(platform.id))
    id = (await client.get(URL)).json()["data"][0]["id"]
    assert (await client.delete(f"{URL}/{id}")).status_code == 204
    with sessions() as session:
        [event] = session.scalars(select(Event))
    assert event.data["metadata"] == {}


async def test_no_answer_is_a_crash_without_a_problem(app: FastAPI, client: httpx.AsyncClient) -> None:
    async def broken() -> None:
        raise ZeroDivisionError("the secret of the day")

    app.add_api_route("/broken", broken)
    answer = await client.get("/broken")
    assert_problem(answer, 500, "internal_error")
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
