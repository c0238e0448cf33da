"""How much of a bare HTTP client's speed is left when each request is a delivery that may not be lost?

The same bodies to the same local receiver with the same number under way: once by httpx alone, in a loop that keeps
nothing, and once by the sender, which claims rows, signs, sends, logs and records. The sender's own client, in a loop
like httpx's, tells what the rows cost. The rounds take turns. The receiver is a process of its own.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import httpx
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from screening import endpoints, events, migrate, platforms, webhook_body
from screening.addresses import parse_ranges
from screening.database import sync_engine
from screening.delivery_schedule import KEPT_RESPONSE
from screening.embedded import EmbeddedPostgres
from screening.embedded.process import free_port, listening, start, wait_until
from screening.outbound import OutboundClient
from screening.settings import Settings
from screening.tables import Event
from screening.webhook_secrets import SecretBox
from worker.deliveries import sender

TARGET = 0.7
HEADERS = {"Content-Type": "application/json"}
# About what a finished screening says.
DATA: dict[str, Any] = {
    "object": "screening", "state": "succeeded", "metadata": {"author": "u-1", "board": "cats"}, "verdict": {
        "label": "fake", "score": 0.912345, "probability": 0.93, "calibration_id": "c1", "reasons": []},
    "localization": {"area_fraction": 0.12, "regions": [{"bbox": [410, 220, 300, 280], "mean": 0.91}] * 4},
    "links": {name: f"https://assay.example.com/v1/screenings/scr_0/{name}" for name in ("image", "mask", "heatmap")},
}  # fmt: skip


class Accepting(asyncio.Protocol):
    """The cheapest receiver there is: whatever comes, once its body is there, gets a 204."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with nothing."""
        self._transport, self._buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            assert isinstance(self._transport, asyncio.WriteTransport)
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


def serve(port: int) -> None:
    """Receive until killed."""

    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(Accepting, "127.0.0.1", port)
        await server.serve_forever()

    asyncio.run(forever())


@contextmanager
def receiver(folder: Path) -> Iterator[str]:
    """A receiver in a process of its own; gives its URL."""
    port = free_port()
    program = f"from tests.bench.webhooks import serve; serve({port})"
    process = start([sys.executable, "-c", program], folder / "receiver.log")
    wait_until(lambda: listening(port), process, folder / "receiver.log")
    try:
        yield f"http://127.0.0.1:{port}/hook"
    finally:
        process.kill()
        process.wait(5)


@contextmanager
def database(folder: Path) -> Iterator[str]:
    """A migrated database, durable as in production."""
    server = EmbeddedPostgres(folder / "postgres", "secret")
    server.start()
    try:
        url = server.create_database()
        engine = sync_engine(url)
        with engine.begin() as connection:
            migrate.upgrade(connection)
        engine.dispose()
        yield url
    finally:
        server.stop()


def emit(engine: Engine, platform_id: UUID, count: int) -> None:
    """As many events as a round sends, each with its delivery."""
    with Session(engine) as session, session.begin():
        for number in range(count):
            data = DATA | {"id": f"scr_{number:032x}"}
            events.emit(session, platform_id=platform_id, type="screening.completed", data=data)


def ours(settings: Settings, count: int) -> float:
    """Deliveries a second."""
    begun = time.perf_counter()
    drained = asyncio.run(sender.drain(settings))
    seconds = time.perf_counter() - begun
    if drained.delivered != count:
        raise click.ClickException(f"{drained.delivered} of {count} deliveries were made")
    return count / seconds


async def lanes(bodies: list[bytes], concurrency: int, post: Callable[[bytes], Awaitable[int]]) -> None:
    """Post every body, `concurrency` at a time."""
    waiting = iter(bodies)

    async def lane() -> None:
        for body in waiting:
            status = await post(body)
            if status != 204:
                raise click.ClickException(f"the receiver answered {status}")

    await asyncio.gather(*(lane() for _ in range(concurrency)))


def bare(url: str, bodies: list[bytes], concurrency: int) -> float:
    """Requests a second of httpx in a loop."""

    async def loop() -> None:
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        async with httpx.AsyncClient(limits=limits, timeout=15) as client:

            async def post(body: bytes) -> int:
                return (await client.post(url, content=body, headers=HEADERS)).status_code

            await lanes(bodies, concurrency, post)

    return rate(loop, len(bodies))


def own(url: str, bodies: list[bytes], concurrency: int) -> float:
    """Requests a second of the sender's own client in the same loop, without rows."""

    async def loop() -> None:
        async with OutboundClient(parse_ranges("127.0.0.0/8"), max_bytes=KEPT_RESPONSE) as client:

            async def post(body: bytes) -> int:
                return (await client.request("POST", url, seconds=15, headers=HEADERS, content=body)).status

            await lanes(bodies, concurrency, post)

    return rate(loop, len(bodies))


def rate(work: Callable[[], Coroutine[Any, Any, None]], count: int) -> float:
    """How many a second."""
    begun = time.perf_counter()
    asyncio.run(work())
    return count / (time.perf_counter() - begun)


@click.command()
@click.option("--count", default=2_000, show_default=True, help="Deliveries a round.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--concurrency", default=32, show_default=True, help="Under way at once, for both.")
def command(count: int, rounds: int, concurrency: int) -> None:
    """Deliveries a second over the requests a second of a bare httpx loop."""
    # Short, and not below anybody's home: PostgreSQL run by root runs as somebody else.
    with tempfile.TemporaryDirectory(prefix="assay-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        with database(folder) as database_url, receiver(folder) as url:
            results = measure(database_url, url, count, rounds, concurrency)
    report(results, count, concurrency)


def measure(database_url: str, url: str, count: int, rounds: int, concurrency: int) -> list[dict[str, float]]:
    """Each round: the figures and their ratios."""
    settings = Settings(
        database_url=database_url, secret_keys=SecretStr("bench"), webhook_allowed_ranges="127.0.0.0/8",
        webhook_concurrency=concurrency, webhook_per_endpoint=concurrency, webhook_per_platform=concurrency,
        drain_seconds=600,
    )  # fmt: skip
    engine = sync_engine(database_url)
    with Session(engine, expire_on_commit=False) as session, session.begin():
        platform = platforms.create(session, "bench")
        endpoints.create(session, SecretBox(settings.keys), platform.id, url)
    found = []
    for _ in range(rounds + 1):  # the first warms both up, and does not count
        emit(engine, platform.id, count)
        with Session(engine) as session:
            rows = session.query(Event).order_by(Event.created_at.desc()).limit(count)
            bodies = [webhook_body.encode(row.type, row.created_at, row.data) for row in rows]
        theirs, alone = bare(url, bodies, concurrency), own(url, bodies, concurrency)
        mine = ours(settings, count)
        figures = {"bare_per_second": theirs, "client_per_second": alone, "deliveries_per_second": mine}
        found.append({**figures, "ratio": mine / theirs, "of_client": mine / alone})
    engine.dispose()
    return found[1:]


def report(results: list[dict[str, float]], count: int, concurrency: int) -> None:
    """A table here, JSON in bench-results/."""
    table = Table("round", "bare httpx /s", "own client /s", "deliveries /s", "of httpx", "of own client", box=None)
    for number, row in enumerate(results, start=1):
        rates = (row["bare_per_second"], row["client_per_second"], row["deliveries_per_second"])
        ratios = (row["ratio"], row["of_client"])
        table.add_row(str(number), *(f"{r:.0f}" for r in rates), *(f"{r:.2f}" for r in ratios))
    ratio, of_client = (statistics.median(row[name] for row in results) for name in ("ratio", "of_client"))
    Console().print(
        table,
        f"median {ratio:.2f} of bare httpx (target {TARGET}), {of_client:.2f} of the own client without rows; "
        f"{count} a round, {concurrency} at a time",
    )
    folder = Path("bench-results")
    folder.mkdir(exist_ok=True)
    summary = {
        "ratio": ratio,
        "of_client": of_client,
        "target": TARGET,
        "count": count,
        "concurrency": concurrency,
        "rounds": results,
    }
    (folder / "webhooks.json").write_text(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    command()
