"""The receivers that we show to platforms work, and take nothing that is not signed."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from screening import endpoints, events, webhook_secrets
from screening.embedded.process import free_port, listening
from screening.settings import Settings
from screening.tables import Platform
from screening.webhook_secrets import SecretBox
from tests.running_line import Process, wait_for
from worker.deliveries import sender, signing

EXAMPLES = Path(__file__).parents[2] / "docker" / "examples"


@contextmanager
def running(command: list[str], secret: str, log: Path) -> Iterator[tuple[str, Process]]:
    port = free_port()
    # Unbuffered, as images often have it: between two writes of one line another thread's line may come.
    variables = {**os.environ, "WEBHOOK_SECRET": secret, "PYTHONUNBUFFERED": "1"}
    receiver = Process("receiver", [*command, str(port)], variables, log)
    try:
        wait_for("the receiver listens", lambda: listening(port) or not receiver.alive)
        assert receiver.alive, log.read_text()
        yield f"http://127.0.0.1:{port}/assay", receiver
    finally:
        receiver.send_all(signal.SIGKILL)
        receiver.wait()


def lines(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def node() -> list[str]:
    """Node with the published library, where ASSAY_NODE_MODULES names a folder that has it."""
    modules = os.environ.get("ASSAY_NODE_MODULES")
    if modules is None:
        pytest.skip("ASSAY_NODE_MODULES names no folder with npm's standardwebhooks")
    copy = Path(modules).parent / "receiver.mjs"  # Node looks for modules beside the file
    copy.write_bytes((EXAMPLES / "receiver.mjs").read_bytes())
    return ["node", str(copy)]


@pytest.mark.parametrize("language", ["python", "node"])
async def test_the_example_takes_what_assay_sends_once_and_nothing_else(
    sessions: sessionmaker[Session], database_url: str, platform: Platform, tmp_path: Path, language: str
) -> None:
    settings = Settings(
        database_url=database_url, secret_keys=SecretStr("key"), webhook_allowed_ranges="127.0.0.0/8", drain_seconds=20
    )
    command = node() if language == "node" else [sys.executable, str(EXAMPLES / "receiver.py")]
    log = tmp_path / "receiver.log"
    box = SecretBox(settings.keys)
    with sessions.begin() as session:
        endpoint, secret = endpoints.create(session, box, platform.id, "https://example.com/")
    with running(command, secret, log) as (url, _):
        with sessions.begin() as session:
            session.merge(endpoint).url = url
            for number in range(3):
                data = {"id": f"scr_{number}", "client_ref": f"post-{number} ü"}
                events.emit(session, platform_id=platform.id, type="screening.completed", data=data)
        drained = await asyncio.to_thread(lambda: asyncio.run(sender.drain(settings)))
        assert drained.delivered == 3
        wait_for("all are handled", lambda: len(lines(log)) == 3)
        await misbehave(url, secret)
        wait_for("the fourth is handled", lambda: len(lines(log)) == 4)
        assert sorted(str(line["id"]) for line in lines(log)) == ["scr_0", "scr_1", "scr_2", "scr_again"]


async def misbehave(url: str, secret: str) -> None:
    """Unsigned, wrongly signed, altered and old requests, and the same one twice."""
    body = json.dumps({"type": "screening.completed", "data": {"id": "scr_again"}}).encode()
    now = datetime.now(UTC)
    good = signing.headers([secret], "evt_1", now, body)
    wrong = signing.headers([webhook_secrets.generate()], "evt_1", now, body)
    old = signing.headers([secret], "evt_1", now.replace(year=now.year - 1), body)
    async with httpx.AsyncClient() as client:
        for headers, content in (({}, body), (wrong, body), (good, body + b" "), (old, body)):
            assert (await client.post(url, headers=headers, content=content)).status_code == 400
        for _ in range(2):
            assert (await client.post(url, headers=good, content=body)).status_code == 204
