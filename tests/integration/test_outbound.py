"""How do requests to foreign addresses behave on the wire: TLS, Host and SNI, redirects, deadlines, sizes?"""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import httpcore
import pytest

from screening import outbound
from screening.addresses import Address, parse_ranges
from screening.outbound import OutboundClient, OutboundError, Reason
from tests.certificates import self_signed

LOOPBACK = parse_ranges("127.0.0.0/8")
PUBLIC = "93.184.215.14"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(script: Script, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A TCP server that speaks as scripted; gives its port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        except ConnectionError:
            pass  # the client hung up, as several tests want
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]
        server.close()
        server.close_clients() if hasattr(server, "close_clients") else None


def answering(text: str, seen: list[str] | None = None) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            if seen is not None:
                seen.append(head)
            writer.write(text.replace("\n", "\r\n").encode())
            await writer.drain()

    async def until_gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        except asyncio.IncompleteReadError:
            return

    return until_gone


class Detour(httpcore.AsyncNetworkBackend):
    """Stands in for the internet: notes the address that is connected to, and connects to the test's server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connected: list[str] = []
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.connected.append(host)
        return await self._inner.connect_tcp("127.0.0.1", self.port, timeout)


async def public(host: str, port: int) -> list[Address]:
    return [ip_address(PUBLIC)]


async def test_a_public_address_works_with_host_and_sni_kept_and_one_resolution(tmp_path: Path) -> None:
    server, trusting = self_signed("hooks.example", tmp_path)
    names: list[str | None] = []
    server.sni_callback = lambda connection, name, context: names.append(name)
    seen: list[str] = []
    asked: list[str] = []

    async def resolver(host: str, port: int) -> list[Address]:
        asked.append(host)
        return await public(host, port)

    async with serving(answering("HTTP/1.1 204 No Content\n\n", seen), server) as port:
        detour = Detour(port)
        async with OutboundClient(max_bytes=100, resolver=resolver, backend=detour, context=trusting) as client:
            for _ in range(3):
                answer = await client.request("GET", "https://hooks.example/a?b=c", seconds=5)
                assert (answer.status, answer.cut) == (204, None)
    assert (asked, detour.connected, names) == (
        ["hooks.example"],
        [PUBLIC],
        ["hooks.example"],
    )  # and the connection is kept
    assert "GET /a?b=c HTTP/1.1\r\nHost: hooks.example\r\n" in seen[0]


async def test_two_names_on_one_address_never_share_a_connection(tmp_path: Path) -> None:
    """A pool keyed by address would send the second name's request over the first name's certificate."""
    server, trusting = self_signed("first.example", tmp_path)
    async with (
        serving(answering("HTTP/1.1 204 No Content\n\n"), server) as port,
        OutboundClient(max_bytes=100, resolver=public, backend=Detour(port), context=trusting) as client,
    ):
        await client.request("GET", "https://first.example/", seconds=5)
        with pytest.raises(OutboundError) as caught:
            await client.request("GET", "https://second.example/", seconds=5)
    assert caught.value.reason == Reason.TLS


async def test_an_untrusted_certificate_is_a_tls_failure(tmp_path: Path) -> None:
    server, _ = self_signed("hooks.example", tmp_path)
    async with (
        serving(answering("HTTP/1.1 204 No Content\n\n"), server) as port,
        OutboundClient(max_bytes=100, resolver=public, backend=Detour(port)) as client,
    ):
        with pytest.raises(OutboundError) as caught:
            await client.request("GET", "https://hooks.example/", seconds=5)
    assert caught.value.reason == Reason.TLS


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:1/", "//[::1]/", "/x"]
)
async def test_a_redirect_is_an_answer_and_is_not_followed(target: str) -> None:
    seen: list[str] = []
    async with (
        serving(answering(f"HTTP/1.1 302 Found\nLocation: {target}\nContent-Length: 0\n\n", seen)) as port,
        OutboundClient(LOOPBACK, max_bytes=100) as client,
    ):
        answer = await client.request("GET", f"http://127.0.0.1:{port}/", seconds=5)
    assert (answer.status, len(seen)) == (302, 1)


async def test_cookies_and_proxies_do_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    seen: list[str] = []
    text = "HTTP/1.1 200 OK\nSet-Cookie: tracked=yes; Path=/\nContent-Length: 2\n\nok"
    async with serving(answering(text, seen)) as port, OutboundClient(LOOPBACK, max_bytes=100) as client:
        for _ in range(2):
            answer = await client.request("GET", f"http://127.0.0.1:{port}/", seconds=5)
            assert answer.body == b"ok"
    assert "cookie" not in "".join(seen).lower()


async def test_the_deadline_holds_over_all_of_a_dripping_head() -> None:
    async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(10_000):
            writer.write(b"X-%d: y\r\n" % number)
            await writer.drain()
            await asyncio.sleep(0.02)

    async with serving(dripping) as port, OutboundClient(LOOPBACK, max_bytes=100) as client:
        with pytest.raises(OutboundError) as caught:
            await client.request("GET", f"http://127.0.0.1:{port}/", seconds=0.3)
    assert caught.value.reason == Reason.TIMEOUT


async def test_a_body_without_end_is_cut_at_the_deadline_and_its_status_counts() -> None:
    async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\nz\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with serving(dripping) as port, OutboundClient(LOOPBACK, max_bytes=100_000) as client:
        answer = await client.request("GET", f"http://127.0.0.1:{port}/", seconds=0.3)
    assert (answer.status, answer.cut) == (200, Reason.TIMEOUT)
    assert set(answer.body) == {ord("z")}


async def test_a_body_over_the_limit_is_cut_there() -> None:
    async def flooding(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 500 Oops\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            writer.write(b"z" * 65536)
            await writer.drain()

    async with serving(flooding) as port, OutboundClient(LOOPBACK, max_bytes=20_000) as client:
        answer = await client.request("GET", f"http://127.0.0.1:{port}/", seconds=5)
    assert (answer.status, len(answer.body), answer.cut) == (500, 20_000, Reason.TOO_LARGE)


def flooding(begin: bytes, again: bytes, sent: list[int]) -> Script:
    """Answers with `begin` and then with `again`, for as long as somebody reads; notes how often."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(begin)
        while True:
            writer.write(again)
            await writer.drain()
            sent[0] += len(again)

    return script


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    ("begin", "again", "status"),
    [
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 1000, None),
        (b"HTTP/1.1 200 OK\r\n", b"X-Y: z\r\n" * 10_000, None),
        (b"HTTP/1.1 200 OK\r\nX-Y: ", b"z" * 65_536, None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 4000 + b"\r\nz\r\n", 200),
    ],
    ids=["interim answers", "fields", "one field", "chunk extensions"],
)
async def test_a_flood_that_is_no_body_ends_after_a_few_kilobytes_and_long_before_the_deadline(
    tmp_path: Path, tls: bool, begin: bytes, again: bytes, status: int | None
) -> None:
    """Parsing it until the deadline would keep the process from everybody else's deliveries."""
    server, trusting = self_signed("hooks.example", tmp_path)
    sent = [0]
    async with serving(flooding(begin, again, sent), server if tls else None) as port:
        options = {"resolver": public, "backend": Detour(port), "context": trusting, "plain": True}
        async with OutboundClient(max_bytes=20_000, **options) as client:  # type: ignore[arg-type]
            request = client.request("GET", f"http{'s' * tls}://hooks.example/", seconds=60)
            if status is None:
                with pytest.raises(OutboundError) as caught:
                    await request
                assert caught.value.reason in (Reason.TOO_LARGE, Reason.PROTOCOL)
            else:
                answer = await request
                assert (answer.status, answer.cut) == (status, Reason.TOO_LARGE)
    assert sent[0] < 20 * 2**20  # what the sockets' buffers took


async def test_every_answer_on_a_kept_connection_has_the_whole_limit() -> None:
    body = "x" * 20_000
    answers = answering(f"HTTP/1.1 200 OK\nContent-Length: {len(body)}\nX-Pad: {'y' * 20_000}\n\n{body}")
    connections = [0]

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[0] += 1
        await answers(reader, writer)

    async with serving(counted) as port, OutboundClient(LOOPBACK, max_bytes=20_000) as client:
        for _ in range(20):
            answer = await client.request("POST", f"http://127.0.0.1:{port}/", seconds=5)
            assert (answer.status, len(answer.body), answer.cut) == (200, 20_000, None)
    assert connections == [1]


async def test_compressed_answers_are_neither_asked_for_nor_unpacked() -> None:
    bomb = gzip.compress(bytes(10_000_000))
    seen: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)
        await writer.drain()

    async with serving(script) as port, OutboundClient(LOOPBACK, max_bytes=20_000) as client:
        answer = await client.request("GET", f"http://127.0.0.1:{port}/", seconds=5)
    assert (answer.status, answer.body, answer.cut) == (200, bomb, None)
    assert b"accept-encoding: identity\r\n" in seen[0].lower()


@pytest.mark.parametrize("garbage", [b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"", b"HTTP/9.9 abc\r\n\r\n", b"\x00\xff" * 500])
async def test_garbage_for_an_answer_is_a_protocol_failure(garbage: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(garbage)
        await writer.drain()

    async with serving(script) as port, OutboundClient(LOOPBACK, max_bytes=100) as client:
        with pytest.raises(OutboundError) as caught:
            await client.request("GET", f"http://127.0.0.1:{port}/", seconds=2)
    assert caught.value.reason in (Reason.PROTOCOL, Reason.CONNECT)


async def test_a_closed_port_is_a_connect_failure() -> None:
    async with serving(answering("")) as port:
        pass
    async with OutboundClient(LOOPBACK, max_bytes=100) as client:
        with pytest.raises(OutboundError) as caught:
            await client.request("GET", f"http://127.0.0.1:{port}/", seconds=2)
    assert caught.value.reason == Reason.CONNECT


async def test_a_thread_fetches_a_whole_body_or_nothing() -> None:
    async with serving(answering("HTTP/1.1 200 OK\nContent-Length: 5\n\nbytes")) as port:
        url = f"http://127.0.0.1:{port}/image.jpg"
        answer = await asyncio.to_thread(outbound.fetch, url, seconds=5, max_bytes=5, allowed=LOOPBACK)
        assert answer.body == b"bytes"
        with pytest.raises(OutboundError) as caught:
            await asyncio.to_thread(outbound.fetch, url, seconds=5, max_bytes=4, allowed=LOOPBACK)
        assert caught.value.reason == Reason.TOO_LARGE
        with pytest.raises(OutboundError) as refused:
            await asyncio.to_thread(outbound.fetch, url, seconds=5, max_bytes=5)
        assert refused.value.reason == Reason.REFUSED_ADDRESS
