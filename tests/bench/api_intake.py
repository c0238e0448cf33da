"""How fast, how many and at what cost in memory does the API accept uploads? `assay bench api-intake`.

One API process, real PostgreSQL with fsync, Redis, local files. The client speaks HTTP/1.1 over bare sockets, so that
on few cores the figures are the server's and not a client library's.
"""

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import httpx

from tests import pictures
from tests.bench import results
from tests.bench.api_stack import Stack, percentile, stack

MEBIBYTE = 1024 * 1024
LARGE, AT_ONCE = 24_000_000, 20


@click.command()
@click.option("--uploads", default=600, show_default=True, help="One after the other, for the latency.")
@click.option("--seconds", default=10.0, show_default=True, help="At full load, for the throughput.")
@click.option("--connections", default=16, show_default=True, help="At full load.")
def command(uploads: int, seconds: float, connections: int) -> None:
    """Accept latency, uploads accepted a second, and peak memory under large uploads."""
    measured = measure(uploads, seconds, connections)
    results.show(
        f"Intake of {measured['upload_bytes'] / 1000:.0f} kB JPEG files",
        ["measure", "value"],
        [
            ["accept latency p50", f"{measured['accept_ms_p50']:.1f} ms"],
            ["accept latency p99", f"{measured['accept_ms_p99']:.1f} ms"],
            [f"accepted a second, {connections} connections", f"{measured['accepts_per_second']:.0f}"],
            [f"memory growth, {AT_ONCE} x 24 MB at once", f"{measured['growth_mebibytes']:.1f} MiB (target <= 64)"],
        ],
    )
    results.save("api-intake", measured)


def measure(uploads: int = 600, seconds: float = 10.0, connections: int = 16) -> dict[str, Any]:
    """Every figure of this benchmark."""
    with stack() as running:
        request = _request(running, _photo())
        latencies = asyncio.run(_one_by_one(running, request, uploads))
        rate = asyncio.run(_at_full_load(running, request, seconds, connections))
        growth = _memory(running)
    return {
        "upload_bytes": len(_photo()),
        "uploads": uploads,
        "accept_ms_p50": 1000 * percentile(latencies, 0.5),
        "accept_ms_p99": 1000 * percentile(latencies, 0.99),
        "accepts_per_second": rate,
        "connections": connections,
        "growth_mebibytes": growth / MEBIBYTE,
        "growth_target_mebibytes": 64,
    }


def _photo() -> bytes:
    """About 150 kB, a usual size for a photo on a platform."""
    noisy = pictures.gradient(1280, 960)
    noisy.frombytes(bytes(b ^ (i * 31 % 7) for i, b in enumerate(noisy.tobytes())))
    return pictures.encode(noisy, "JPEG", quality=80)


def _request(running: Stack, photo: bytes) -> bytes:
    body = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' + photo + b"\r\n--b--\r\n"
    head = (
        f"POST /v1/screenings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {running.key}\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Connection:
    """One keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, running: Stack) -> "_Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", running.server.port))

    async def send(self, request: bytes) -> float:
        """Seconds to the end of the answer. Raises RuntimeError unless it is 202."""
        started = time.perf_counter()
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        fields = head.decode("latin-1").lower().split("\r\n")
        [length] = [int(line.split(":")[1]) for line in fields if line.startswith("content-length:")]
        body = await self._reader.readexactly(length)
        if b" 202 " not in head[:16]:
            raise RuntimeError(body.decode())
        return time.perf_counter() - started

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def _one_by_one(running: Stack, request: bytes, count: int) -> list[float]:
    connection = await _Connection.open(running)
    for _ in range(20):  # the first ones open connections to everything
        await connection.send(request)
    latencies = [await connection.send(request) for _ in range(count)]
    await connection.close()
    return latencies


async def _at_full_load(running: Stack, request: bytes, seconds: float, connections: int) -> float:
    accepted = 0
    deadline = time.perf_counter() + seconds

    async def keep_sending() -> None:
        nonlocal accepted
        connection = await _Connection.open(running)
        while time.perf_counter() < deadline:
            await connection.send(request)
            accepted += 1
        await connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(keep_sending() for _ in range(connections)))
    return accepted / (time.perf_counter() - started)


def _memory(running: Stack) -> int:
    """Bytes by which the process's resident memory grows at its highest, over what it was before."""
    process = Path(f"/proc/{running.server.pid}")
    (process / "clear_refs").write_text("5")  # the highest mark starts anew from what is resident now
    before = _highest(process)
    content = pictures.jpeg() + os.urandom(1024) + bytes(LARGE)

    def upload(_: int) -> int:
        files = {"image": ("a.jpg", content)}
        answer = httpx.post(f"{running.server.url}/v1/screenings", files=files, headers=running.headers, timeout=300)
        return answer.status_code

    with ThreadPoolExecutor(AT_ONCE) as pool:
        statuses = set(pool.map(upload, range(AT_ONCE)))
    if statuses != {202}:
        raise RuntimeError(f"answers were {statuses}")
    return _highest(process) - before


def _highest(process: Path) -> int:
    [line] = [line for line in (process / "status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
