"""How does Assay speak to an address that somebody else chose? Checked, without redirects, within time and size.

`connections.py` sees to whom a connection really leads. Proxies, cookies, compression and redirects do not exist here:
requests go straight to httpcore's connections, which know none of them. Plain http leads to ranges that the operator
allows, and elsewhere only where the caller says so: an image may come that way, a verdict may not go that way.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from ipaddress import ip_address
from types import TracebackType
from typing import Self

import httpcore
import httpx

from screening import addresses
from screening.addresses import Address, AddressRefusedError, Network
from screening.connections import CheckedBackend, Connections, FloodError, Resolver
from screening.errors import AssayError

MAX_URL = 2_048
HOST = re.compile(rb"[A-Za-z0-9._:-]{1,255}")  # as it goes on the wire: IDNA applied, no brackets, no zone id
FAILURES = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)
# What an answer may have beside its body: heads and interim answers, and an eighth of the body for framing in chunks.
HEAD_BYTES = 32_768
FRAMING = 8
# getaddrinfo blocks and cannot be cancelled. Threads of our own, so that a silent name server holds up neither the
# event loop nor other names; many, because a thread waits on after its attempt has been given up, and one platform may
# have tens of attempts under way.
_resolvers = ThreadPoolExecutor(256, thread_name_prefix="resolve")


class Reason(StrEnum):
    """Why no whole answer came; these are the `error` of a delivery's log."""

    REFUSED_URL = "refused_url"
    REFUSED_ADDRESS = "refused_address"
    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    TOO_LARGE = "too_large"


class OutboundError(AssayError):
    """No answer. `reason` says why in a word, the message in a sentence that names no address of ours."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, its headers and the first bytes of the body; `cut` says why the body is not whole, where it is not."""

    status: int
    headers: httpx.Headers
    body: bytes
    cut: Reason | None = None


@dataclass(slots=True)
class _Received:
    """What has come so far: a deadline may strike at any point, and what came before it counts."""

    status: int
    headers: httpx.Headers
    body: bytearray

    def answer(self, max_bytes: int, cut: Reason | None) -> Answer:
        """The same, for good; a body over the limit is cut."""
        if len(self.body) > max_bytes:
            cut = Reason.TOO_LARGE
        return Answer(self.status, self.headers, bytes(self.body[:max_bytes]), cut)


async def resolve(host: str, port: int) -> list[Address]:
    """Every address of a name, as the system resolves it. Raises OutboundError where it has none."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.run_in_executor(_resolvers, socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise OutboundError(Reason.RESOLVE, f"The name {host!r} does not resolve.") from error
    return list(dict.fromkeys(ip_address(entry[4][0]) for entry in found))


def check_url(url: str, allowed: Sequence[Network] = (), *, plain: bool = False) -> httpx.URL:
    """A URL we would try: https, or http if plain or where ranges are allowed; no credentials, no refused literal.

    Raises OutboundError. What a name resolves to is checked at each connection, not here.
    """
    try:
        parsed = httpx.URL(url)
        host = parsed.host  # raises where it looks like IDNA and is none; httpx itself would ask later
    except (httpx.InvalidURL, ValueError) as error:
        raise OutboundError(Reason.REFUSED_URL, "The URL cannot be read.") from error
    if len(url) > MAX_URL:
        raise OutboundError(Reason.REFUSED_URL, f"The URL is longer than {MAX_URL} characters.")
    if parsed.scheme not in (("https", "http") if allowed or plain else ("https",)):
        raise OutboundError(Reason.REFUSED_URL, "The URL must begin with https://.")
    if not HOST.fullmatch(parsed.raw_host) or parsed.userinfo or parsed.fragment:
        raise OutboundError(Reason.REFUSED_URL, "The URL needs a host, and may carry no credentials and no fragment.")
    if parsed.port is not None and not 0 < parsed.port < 65_536:
        raise OutboundError(Reason.REFUSED_URL, "The URL names an impossible port.")
    address = addresses.literal(host)
    if address is not None and addresses.refusal(address, allowed) is not None:
        raise OutboundError(Reason.REFUSED_ADDRESS, "The URL names an address that is not public.")
    return parsed


@cache
def _default_context() -> ssl.SSLContext:
    """The public authorities, or those that SSL_CERT_FILE names. Reading them takes a tenth of a second."""
    return httpx.create_ssl_context()


class OutboundClient:
    """Makes requests to foreign addresses, and keeps at most `max_bytes` of each answer's body.

    One an event loop; connections are kept and reused.
    """

    def __init__(
        self,
        allowed: Sequence[Network] = (),
        *,
        max_bytes: int,
        plain: bool = False,
        resolver: Resolver = resolve,
        backend: httpcore.AsyncNetworkBackend | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.allowed = tuple(allowed)
        self.plain = plain
        self.max_bytes = max_bytes
        self._check_url = lru_cache(maxsize=1_000)(check_url)  # a few URLs, over and over
        context = context or _default_context()
        inner = backend or httpcore.AnyIOBackend()
        most = max_bytes + max_bytes // FRAMING + HEAD_BYTES
        self._connections = {
            "https": Connections(CheckedBackend(self._permit, resolver, inner, most), context),
            "http": Connections(CheckedBackend(self._permit_plain, resolver, inner, most), context),
        }

    def _permit(self, address: Address) -> None:
        addresses.check(address, self.allowed)

    def _permit_plain(self, address: Address) -> None:
        self._permit(address)
        if not self.plain and not addresses.is_allowed(address, self.allowed):
            raise AddressRefusedError("plain http is for allowed ranges")

    async def request(
        self,
        method: str,
        url: str,
        *,
        seconds: float,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer:
        """One request and its answer, all within `seconds`. Raises OutboundError.

        Once a status has come, there is an answer: what happens to the body afterwards is told by `cut`.
        """
        parsed = self._check_url(url, self.allowed, plain=self.plain)
        request = _request(method, parsed, seconds, headers or {}, content)
        received: list[_Received] = []
        cut = None
        try:
            async with asyncio.timeout(seconds):
                await self._exchange(parsed.scheme, request, received)
        except (*FAILURES, TimeoutError, OSError, AddressRefusedError) as error:
            cut, message = _explained(error)
            if not received:
                raise OutboundError(cut, message) from error
        return received[0].answer(self.max_bytes, cut)

    async def _exchange(self, scheme: str, request: httpcore.Request, received: list[_Received]) -> None:
        connections, origin = self._connections[scheme], request.url.origin
        connection = await connections.take(origin)
        try:
            response = await connection.handle_async_request(request)
            received.append(_Received(response.status, httpx.Headers(response.headers), bytearray()))
            async for chunk in response.aiter_stream():
                received[0].body += chunk
                if len(received[0].body) > self.max_bytes:
                    break
            await response.aclose()
        finally:
            await connections.give_back(connection, origin)

    async def aclose(self) -> None:
        """Close every connection."""
        for connections in self._connections.values():
            await connections.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _request(
    method: str, url: httpx.URL, seconds: float, headers: Mapping[str, str], content: bytes | None
) -> httpcore.Request:
    """What goes over the wire."""
    fields = {"Host": url.netloc.decode(), "Accept": "*/*", "Accept-Encoding": "identity", **headers}
    if content is not None:
        fields["Content-Length"] = str(len(content))
    return httpcore.Request(
        method,
        httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=[(name.encode("ascii"), value.encode("ascii")) for name, value in fields.items()],
        content=content,
        extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), seconds)},
    )


def _explained(error: BaseException) -> tuple[Reason, str]:
    if isinstance(error, AddressRefusedError):
        return Reason.REFUSED_ADDRESS, "The name leads to an address that is not public."
    if isinstance(error, TimeoutError | httpcore.TimeoutException):
        return Reason.TIMEOUT, "No answer in time."
    if any(isinstance(cause, FloodError) for cause in _causes(error)):
        return Reason.TOO_LARGE, "The answer is larger than any answer may be."
    if any(isinstance(cause, ssl.SSLError) for cause in _causes(error)):
        return Reason.TLS, "The TLS connection failed: is the certificate valid for the name?"
    if isinstance(error, httpcore.ConnectError | OSError):
        return Reason.CONNECT, "The connection was refused or broke off."
    return Reason.PROTOCOL, "The answer is not HTTP, or broke off."


def _causes(error: BaseException) -> Iterable[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def fetch(
    url: str,
    *,
    seconds: float,
    max_bytes: int,
    allowed: Sequence[Network] = (),
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """GET a whole body, from a thread without an event loop. Raises OutboundError, also where the body is cut.

    Any status is an answer; redirects are not followed.
    """
    answer = asyncio.run(_fetch(url, seconds, max_bytes, allowed, headers))
    if answer.cut is not None:
        sentence = (
            f"The answer is larger than {max_bytes} bytes." if answer.cut == Reason.TOO_LARGE else "It broke off."
        )
        raise OutboundError(answer.cut, sentence)
    return answer


async def _fetch(
    url: str, seconds: float, max_bytes: int, allowed: Sequence[Network], headers: Mapping[str, str] | None
) -> Answer:
    async with OutboundClient(allowed, max_bytes=max_bytes, plain=True) as client:
        return await client.request("GET", url, seconds=seconds, headers=headers)
