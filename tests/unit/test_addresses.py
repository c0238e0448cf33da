"""Which addresses are refused, however they are spelled? No connection is even tried to any of them."""

import random
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

import httpcore
import pytest

from screening import addresses
from screening.errors import ConfigurationError
from screening.outbound import OutboundClient, OutboundError, Reason, check_url

LOOPBACK = "127.0.0.1"
METADATA = "169.254.169.254"

# Hosts as a platform may write them. All are read by the system's own resolver, as in production.
SPELLINGS = [
    # IPv4: dotted, octal, hexadecimal, one integer, short forms, mixtures
    "127.0.0.1", "127.255.255.254", "0177.0.0.1", "0177.0000.0000.0001", "0x7f.0.0.1", "0x7f.0x0.0x0.0x1",
    "0x7f000001", "0X7F000001", "017700000001", "2130706433", "127.1", "127.0.1", "0x7f.1", "0177.1", "127.0x0.1",
    "0", "0.0.0.0", "0x0", "10.0.0.1", "10.1", "012.0.0.1", "0xa000001", "167772161", "172.16.0.1", "172.31.255.255",
    "0xac.0x10.1", "192.168.1.1", "192.168.257", "0300.0250.1.1", "3232235777", "0xc0a80101", "100.64.0.1",
    "100.100.100.200", "169.254.169.254", "169.254.43518", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376",
    "168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.7", "192.88.99.1",
    "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "4294967295",
    # IPv6: loopback, unspecified, link-local, unique local, site-local, multicast, documentation, discard
    "[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::]", "[fe80::1]", "[febf::1]", "[fc00::1]", "[fd00:ec2::254]",
    "[fd20:ce::254]", "[fec0::1]", "[ff02::1]", "[ff0e::1]", "[2001:db8::1]", "[3fff::1]", "[100::1]", "[5f00::1]",
    "[4000::1]",
    # mapped, compatible, translated
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:10.0.0.1]", "[::ffff:a9fe:a9fe]", "[::127.0.0.1]", "[::7f00:1]",
    "[::ffff:0:127.0.0.1]",
    # NAT64, its local prefix, 6to4, Teredo, ISATAP
    "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b::10.0.0.1]", "[64:ff9b:1::1]",
    "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]", "[2002:c0a8:101::1]", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
    "[2001::1]", "[2001:20::1]", "[2600::5efe:127.0.0.1]", "[2600::200:5efe:a9fe:a9fe]",
    # zone ids
    "[fe80::1%25lo]", "[fe80::1%lo]", "[::1%25lo]", "[2606:4700:4700::1111%25lo]",
    # other dots and digits, which become ours on the way to the resolver or are refused
    "127\u30020\u30020\u30021", "\uff11\uff12\uff17.0.0.1", "\u2460\u2461\u2466.0.0.1",
    "169\uff0e254\uff0e169\uff0e254",
    # names that every machine resolves to itself
    "localhost", "LOCALHOST", "loc\u00adalhost", "\uff4cocalhost",
]  # fmt: skip

URLS = [
    "http://example.com/",  # not TLS
    "ftp://example.com/", "file:///etc/passwd", "gopher://127.0.0.1:70/", "unix:///run/docker.sock", "//example.com/",
    "https://", "https:///path", "https://user:secret@example.com/", "https://example.com@127.0.0.1/",
    "https://127.0.0.1#@example.com/", "https://127.0.0.1\\@example.com/", "https://example.com/#fragment",
    "https://exa mple.com/", "https://example.com:99999/", "https://ex\x00ample.com/", "https://[::1", "javascript:1",
    "https://example.com/" + "a" * 3000, "https://example.com/\r\nX-Injected: yes", "https://example.com\r\nHost: x/",
    "https://xn--/", "https://xn--a/",  # look like IDNA and are none
]  # fmt: skip


class NoConnection(httpcore.AsyncNetworkBackend):
    """Records who would have been connected to, and connects to nobody."""

    def __init__(self) -> None:
        self.tried: list[str] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.tried.append(host)
        raise httpcore.ConnectError("nobody is connected to here")


async def attempt(url: str, backend: NoConnection, **options: object) -> Reason:
    async with OutboundClient(max_bytes=100, backend=backend, **options) as client:  # type: ignore[arg-type]
        with pytest.raises(OutboundError) as caught:
            await client.request("POST", url, seconds=5)
    return caught.value.reason


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(set(SPELLINGS)) >= 60


@pytest.mark.parametrize("host", SPELLINGS)
async def test_a_spelling_of_a_private_address_is_refused_before_any_connection(host: str) -> None:
    backend = NoConnection()
    reason = await attempt(f"https://{host}:8443/hook", backend)
    assert reason in (Reason.REFUSED_ADDRESS, Reason.REFUSED_URL)
    assert backend.tried == []


@pytest.mark.parametrize("url", URLS)
async def test_a_url_that_is_not_plain_https_to_a_host_is_refused(url: str) -> None:
    backend = NoConnection()
    assert await attempt(url, backend) in (Reason.REFUSED_URL, Reason.REFUSED_ADDRESS)
    assert backend.tried == []


@pytest.mark.parametrize(
    "answers",
    [[LOOPBACK], [METADATA], ["93.184.215.14", LOOPBACK], ["2606:4700:4700::1111", "::1"], ["::ffff:10.0.0.1"]],
)
async def test_a_name_is_refused_if_any_of_its_addresses_is(answers: list[str]) -> None:
    async def resolver(host: str, port: int) -> list[addresses.Address]:
        return [ip_address(answer) for answer in answers]

    backend = NoConnection()
    assert await attempt("https://hooks.example/", backend, resolver=resolver) == Reason.REFUSED_ADDRESS
    assert backend.tried == []


async def test_rebinding_gains_nothing_because_the_checked_address_is_the_one_connected_to() -> None:
    replies = [["93.184.215.14"], [LOOPBACK], [METADATA]]

    async def resolver(host: str, port: int) -> list[addresses.Address]:
        return [ip_address(answer) for answer in replies.pop(0)]

    backend = NoConnection()
    options = {"resolver": resolver}
    assert await attempt("https://rebind.example/", backend, **options) == Reason.CONNECT
    assert await attempt("https://rebind.example/", backend, **options) == Reason.REFUSED_ADDRESS
    assert await attempt("https://rebind.example/", backend, **options) == Reason.REFUSED_ADDRESS
    assert backend.tried == ["93.184.215.14"]


async def test_a_name_with_many_addresses_is_tried_a_few_times_only() -> None:
    async def resolver(host: str, port: int) -> list[addresses.Address]:
        return [ip_address(f"93.184.215.{last}") for last in range(1, 200)]

    backend = NoConnection()
    assert await attempt("https://many.example/", backend, resolver=resolver) == Reason.CONNECT
    assert len(backend.tried) == 4


async def test_plain_http_is_refused_outside_the_allowed_ranges_even_where_ranges_are_allowed() -> None:
    async def resolver(host: str, port: int) -> list[addresses.Address]:
        return [ip_address("93.184.215.14")]

    backend = NoConnection()
    options = {"resolver": resolver, "allowed": addresses.parse_ranges("10.0.0.0/8")}
    assert await attempt("http://public.example/", backend, **options) == Reason.REFUSED_ADDRESS
    assert backend.tried == []


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "93.184.215.14", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "2a00:1450::1",
     "64:ff9b::8.8.8.8", "2002:808:808::1", "::ffff:8.8.8.8"],
)  # fmt: skip
def test_a_public_address_is_not_refused(address: str) -> None:
    assert addresses.refusal(ip_address(address)) is None
    host = f"[{address}]" if ":" in address else address
    assert check_url(f"https://{host}/").host == address


def test_an_allowed_range_opens_that_range_and_no_other_in_mapped_form_too() -> None:
    allowed = addresses.parse_ranges("10.20.0.0/16, fd12::/16")
    assert addresses.refusal(ip_address("10.20.3.4"), allowed) is None
    assert addresses.refusal(ip_address("::ffff:10.20.3.4"), allowed) is None
    assert addresses.refusal(ip_address("fd12::1"), allowed) is None
    for still in ("10.21.0.1", "127.0.0.1", "fd13::1", "64:ff9b::10.21.0.1"):
        assert addresses.refusal(ip_address(still), allowed) is not None


def test_a_range_that_is_none_names_the_setting() -> None:
    with pytest.raises(ConfigurationError, match="ASSAY_ALLOWED_RANGES"):
        addresses.parse_ranges("10.0.0.0/8, nonsense")


def test_no_address_that_the_standard_library_calls_private_is_let_through(rng: random.Random) -> None:
    """The written-out list is held against the library's: ours may refuse more, never less."""
    numbers = [rng.getrandbits(32) for _ in range(20_000)]
    prefixes = [0x2001 << 112, 0x2001_0DB8 << 96, 0x3FFF << 112, 0x2002 << 112, 0xFC << 120, 0xFE << 120, 0]
    wide = [rng.choice(prefixes) | rng.getrandbits(rng.choice((16, 32, 96, 112))) for _ in range(20_000)]
    sampled: list[addresses.Address] = [*map(IPv4Address, numbers), *map(IPv6Address, wide)]
    private = [address for address in sampled if not address.is_global or address.is_multicast]
    assert len(private) > 5_000
    assert [address for address in private if addresses.refusal(address) is None] == []


def test_the_resolver_of_this_machine_reads_the_numeric_spellings_as_we_say() -> None:
    """The corpus means something only where the system resolver takes these forms for the loopback."""
    for spelling in ("0177.0.0.1", "0x7f000001", "2130706433", "127.1"):
        assert socket.getaddrinfo(spelling, 443)[0][4][0] == LOOPBACK
