"""To whom is a connection really opened, how much is read from it, and when is it used again?

A name is resolved once for each connection, every address it gives is checked, and the connection goes to a checked
address itself: a resolver that answers differently the second time is not asked a second time. `Host` and SNI keep the
name, and certificates are verified against it.

httpcore speaks HTTP on each connection. Which connection a request takes is decided here, because its pool looks at
every connection for each request, and at every pair of idle ones.
"""

import ssl
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import httpcore

from screening.addresses import Address, AddressRefusedError

Resolver = Callable[[str, int], Awaitable[Sequence[Address]]]

TRIED_AT_MOST = 4  # addresses of one name; a name with hundreds would outlast any deadline
KEPT_IDLE = 64
KEPT_IDLE_SECONDS = 30.0


class FloodError(httpcore.ReadError):
    """More came than any answer may be."""


class BoundedStream(httpcore.AsyncNetworkStream):
    """A connection that reads at most `most` bytes after each write, which is where a request begins.

    A limit on the body alone is none: interim answers without end, or chunks of one byte with long extensions, would
    keep this process parsing for as long as the deadline allows, and everybody else's attempts waiting.
    """

    def __init__(self, inner: httpcore.AsyncNetworkStream, most: int) -> None:
        self._inner = inner
        self._most = most
        self._left = most

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's interface
        """What has come, within the limit. Raises FloodError beyond it."""
        if self._left <= 0:
            raise FloodError(f"more than {self._most} bytes in answer to one request")
        data = await self._inner.read(min(max_bytes, self._left), timeout)
        self._left -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's interface
        """Send, and be ready for another answer."""
        self._left = self._most
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
    ) -> httpcore.AsyncNetworkStream:
        """The same over TLS, where what counts is what was decrypted."""
        return BoundedStream(await self._inner.start_tls(ssl_context, server_hostname, timeout), self._most)

    def get_extra_info(self, info: str) -> Any:
        """Whatever the inner stream says of itself."""
        return self._inner.get_extra_info(info)


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Opens TCP connections, each to an address that was just checked."""

    def __init__(
        self, permit: Callable[[Address], None], resolver: Resolver, inner: httpcore.AsyncNetworkBackend, most: int
    ) -> None:
        self._permit = permit
        self._resolver = resolver
        self._inner = inner
        self._most = most

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve once, refuse the name if any of its addresses is refused, try the addresses in order."""
        found = await self._resolver(host, port)
        for address in found:
            self._permit(address)
        failure = httpcore.ConnectError("the name has no address")
        for address in found[:TRIED_AT_MOST]:
            try:
                stream = await self._inner.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except httpcore.ConnectError as error:
                failure = error
                continue
            return BoundedStream(stream, self._most)
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Never: a socket file is as private as an address can be."""
        raise AddressRefusedError("unix sockets are refused")

    async def sleep(self, seconds: float) -> None:
        """Wait, as httpcore asks between retries."""
        await self._inner.sleep(seconds)


class Connections:
    """Kept connections to where one scheme leads, each used by one request at a time.

    They are keyed by name and port. Keyed by address, two names on one address would share a connection whose
    certificate was verified for the other.
    """

    def __init__(self, backend: httpcore.AsyncNetworkBackend, context: ssl.SSLContext) -> None:
        self._backend = backend
        self._context = context
        self._idle: dict[tuple[bytes, int], list[httpcore.AsyncHTTPConnection]] = defaultdict(list)
        self._count = 0

    async def take(self, origin: httpcore.Origin) -> httpcore.AsyncHTTPConnection:
        """The connection that was used last, or one that opens with its first request."""
        idle = self._idle[origin.host, origin.port]
        while idle:
            connection = idle.pop()
            self._count -= 1
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return httpcore.AsyncHTTPConnection(
            origin,
            ssl_context=self._context,
            keepalive_expiry=KEPT_IDLE_SECONDS,
            network_backend=self._backend,
        )

    async def give_back(self, connection: httpcore.AsyncHTTPConnection, origin: httpcore.Origin) -> None:
        """Keep a connection whose answer was read to its end, and close any other."""
        if connection.is_closed() or not connection.is_idle() or self._count >= KEPT_IDLE:
            await connection.aclose()
            return
        self._idle[origin.host, origin.port].append(connection)
        self._count += 1

    async def aclose(self) -> None:
        """Close every kept connection."""
        for idle in self._idle.values():
            for connection in idle:
                await connection.aclose()
        self._idle.clear()
        self._count = 0
