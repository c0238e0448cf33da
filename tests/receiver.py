"""What does a platform's receiver do? Whatever the test says, for each path, over a real socket; and it remembers."""

import asyncio
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came."""

    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    at: datetime

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `raw` replaces everything, `endless` drips a body for ever, `delay` comes before the status.

    `hold` keeps the answer back until it returns True, or for twenty seconds.
    """

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0
    raw: bytes | None = None
    endless: bool = False
    hold: Callable[[], bool] | None = None


Behaviour = Callable[[Request], Reply]


def _accept(_: Request) -> Reply:
    return Reply()


class Receiver:
    """An HTTP/1.1 server in a thread, over TLS with a context. Paths without a behaviour answer 204."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self.requests: list[Request] = []
        self.behaviours: dict[str, Behaviour] = {}
        self._port: Future[int] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def url(self, path: str = "/") -> str:
        scheme = "http" if self._context is None else "https"
        return f"{scheme}://127.0.0.1:{self._port.result(10)}{path}"

    def at(self, path: str, behaviour: Behaviour | Reply) -> str:
        """Answer so at a path; gives its URL."""
        self.behaviours[path] = behaviour if callable(behaviour) else lambda _: behaviour
        return self.url(path)

    def seen(self, path: str) -> list[Request]:
        return [r for r in self.requests if r.path == path]

    def counts(self, path: str) -> Counter[str]:
        """How often each message came to a path."""
        return Counter(r.id for r in self.seen(path))

    def start(self) -> None:
        self._thread.start()
        self._port.result(10)

    def stop(self) -> None:
        assert self._loop is not None
        assert self._ended is not None
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        connections: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(self._converse(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=self._context)
        self._port.set_result(server.sockets[0].getsockname()[1])
        await self._ended.wait()
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._answer(await self._read(reader), writer):
                    pass
                await writer.drain()
        finally:
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        request = Request(head[0].split(" ")[1], headers, body, datetime.now(UTC))
        self.requests.append(request)
        return request

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection may be used again."""
        reply = self.behaviours.get(request.path, _accept)(request)
        await asyncio.sleep(reply.delay)
        await self._hold(reply)
        if reply.raw is not None:
            writer.write(reply.raw)
            await writer.drain()
            return False
        length = {"Transfer-Encoding": "chunked"} if reply.endless else {"Content-Length": str(len(reply.body))}
        lines = [f"HTTP/1.1 {reply.status} X", *(f"{k}: {v}" for k, v in (length | reply.headers).items())]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if reply.endless else reply.body))
        await writer.drain()
        while reply.endless:
            writer.write(b"1\r\nz\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)
        return True

    async def _hold(self, reply: Reply) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(20):
                while reply.hold is not None and not reply.hold():  # noqa: ASYNC110 - the test's thread says when
                    await asyncio.sleep(0.01)


@contextmanager
def receiving(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver for as long as the block runs."""
    receiver = Receiver(context)
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()
