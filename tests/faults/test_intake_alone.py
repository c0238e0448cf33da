"""Intake with nothing behind it: Redis and every worker down, and what was accepted still ends."""

import random
from uuid import UUID

import httpx
from pydantic import SecretStr

from screening import api_keys, ids
from screening.api_keys import Scope
from screening.ids import Prefix
from screening.settings import Settings
from tests.faults.conftest import UPLOADS, FaultyLine
from tests.running_line import RunningLine, picture
from tests.server import ApiServer


def serve(line: RunningLine) -> ApiServer:
    settings = Settings(
        database_url=line.database_url,
        redis_url=line.redis.url,
        blob_url=line.blob_url,
        secret_keys=SecretStr("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="),
    )
    return ApiServer(settings, line.folder).start()


def upload(client: httpx.Client, content: bytes) -> UUID:
    answer = client.post("/v1/screenings", files={"image": ("a.jpg", content, "image/jpeg")})
    assert answer.status_code == 202, answer.text
    found = ids.decode(Prefix.SCREENING, answer.json()["id"])
    assert found is not None
    return found


def test_uploads_are_accepted_with_redis_and_all_workers_down(faulty: FaultyLine, rng: random.Random) -> None:
    faulty.no_worker()
    line = faulty.line
    with line.sessions.begin() as session:
        key = api_keys.create(session, line.platform, frozenset(Scope))
    server = serve(line)
    line.redis.kill()
    try:
        with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
            accepted = [upload(client, picture(rng)) for _ in range(UPLOADS)]
    finally:
        line.redis.start()
        assert server.stop() == 0
    assert line.states(accepted) == {"queued": UPLOADS}
    faulty.worker()
    faulty.recovers(accepted)
