"""The API behind a real socket: streams, slow and lying clients, signals, several processes, a Redis that is away."""

import hashlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from screening.blobs import open_store
from screening.embedded import EmbeddedRedis
from screening.embedded.process import free_port, listening
from screening.settings import Settings
from screening.tables import Screening
from tests import pictures
from tests.problems import assert_problem
from tests.server import ApiServer

Sessions = sessionmaker[Session]
URL = "/v1/screenings"
BOUNDARY = b"frontier"


def part(content: bytes, name: str = "image", filename: str = "a.jpg") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'
    return b"--" + BOUNDARY + b"\r\n" + head.encode() + content + b"\r\n"


def form(content: bytes) -> bytes:
    return part(content) + b"--" + BOUNDARY + b"--\r\n"


def head(key: str, *lines: str) -> bytes:
    given = [
        f"POST {URL} HTTP/1.1", "Host: x", f"Authorization: Bearer {key}",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}", *lines,
    ]  # fmt: skip
    return ("\r\n".join(given) + "\r\n\r\n").encode()


def answer_of(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read one answer to the end of the connection, or of its declared length."""
    raw = b""
    while b"\r\n\r\n" not in raw and (data := connection.recv(65536)):
        raw += data
    top, _, body = raw.partition(b"\r\n\r\n")
    lines = top.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    while len(body) < int(headers.get("content-length", 0)) and (data := connection.recv(65536)):
        body += data
    return int(lines[0].split()[1]), headers, body


def problem_of(connection: socket.socket) -> tuple[int, str]:
    status, headers, body = answer_of(connection)
    assert headers["content-type"] == "application/problem+json"
    return status, json.loads(body)["code"]


@pytest.fixture
def http(server: ApiServer, api_key: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {api_key}"}, timeout=30) as made:
        yield made


def still_works(http: httpx.Client) -> None:
    """The next upload works."""
    assert http.post(URL, files={"image": ("a.jpg", pictures.jpeg())}).status_code == 202


def test_a_body_over_the_limit_is_refused_before_it_has_arrived(
    server: ApiServer, api_key: str, http: httpx.Client
) -> None:
    with server.connect() as declared:
        declared.sendall(head(api_key, "Content-Length: 30000000", "Expect: 100-continue"))
        assert problem_of(declared) == (413, "too_many_bytes")
    with server.connect() as chunked:
        chunked.sendall(head(api_key, "Transfer-Encoding: chunked"))
        sent, chunk = 0, b"10000\r\n" + bytes(65536) + b"\r\n"
        first = part(b"")[:-2]
        chunked.sendall(b"%x\r\n" % len(first) + first + b"\r\n")
        while sent < 28_000_000:  # far less than would be sent were it read to its end: there is none
            chunked.sendall(chunk)
            sent += 65536
        assert problem_of(chunked) == (413, "too_many_bytes")
    still_works(http)


def test_a_file_of_30_mb_is_refused_and_the_client_reads_why(http: httpx.Client, settings: Settings) -> None:
    answer = http.post(URL, files={"image": ("a.jpg", pictures.jpeg() + bytes(30_000_000))})
    assert_problem(answer, 413, "too_many_bytes")
    assert list(open_store(settings.blob_url).keys("")) == []
    still_works(http)


@pytest.mark.parametrize("length", [100, 100_000])
def test_a_wrong_content_length_is_refused(server: ApiServer, api_key: str, http: httpx.Client, length: int) -> None:
    """Too small: the form is cut off. Too large: the rest never comes."""
    with server.connect() as connection:
        connection.sendall(head(api_key, f"Content-Length: {length}") + form(pictures.jpeg()))
        expected = (400, "malformed_request") if length == 100 else (408, "request_timeout")
        assert problem_of(connection) == expected
    still_works(http)


def test_a_client_that_trickles_is_cut_off(server: ApiServer, api_key: str, http: httpx.Client) -> None:
    content = form(pictures.jpeg())
    with server.connect() as connection:
        connection.sendall(head(api_key, f"Content-Length: {len(content)}"))
        stop = threading.Event()

        def trickle() -> None:
            for byte in content:
                if stop.wait(0.1):
                    return
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    return

        sender = threading.Thread(target=trickle)
        sender.start()
        assert problem_of(connection) == (408, "request_timeout")
        stop.set()
        sender.join()
    still_works(http)


def test_a_client_that_hangs_up_leaves_nothing_behind(
    server: ApiServer, api_key: str, http: httpx.Client, settings: Settings, sessions: Sessions
) -> None:
    for _ in range(5):
        with server.connect() as connection:
            connection.sendall(head(api_key, "Content-Length: 5000000") + part(bytes(100_000)))
    still_works(http)
    assert len(list(open_store(settings.blob_url).keys(""))) == 1
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Screening)) == 1


def test_what_is_not_http_gets_a_problem_too(server: ApiServer) -> None:
    with server.connect() as connection:
        connection.sendall(b"HELLO\r\n\r\n")
        assert problem_of(connection) == (400, "malformed_request")


def test_twenty_large_uploads_at_once_arrive_whole(settings: Settings, tmp_path: Path, api_key: str) -> None:
    """Memory stays flat meanwhile: the growth of its highest mark is far below one file each."""
    picture = pictures.jpeg()
    files = [picture + i.to_bytes(2, "big") + bytes(12_000_000) for i in range(20)]
    server = ApiServer(settings, tmp_path).start()  # with the usual time for a body: a busy machine needs it
    try:
        with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {api_key}"}, timeout=120) as http:
            still_works(http)
            before = _peak_bytes(server.pid)
            with ThreadPoolExecutor(20) as pool:
                answers = list(pool.map(lambda content: http.post(URL, files={"image": ("a.jpg", content)}), files))
            growth = _peak_bytes(server.pid) - before
    finally:
        server.stop()
    assert [answer.status_code for answer in answers] == [202] * 20
    assert {a.json()["image"]["sha256"] for a in answers} == {hashlib.sha256(f).hexdigest() for f in files}
    assert growth <= 64 * 1024 * 1024


def _peak_bytes(pid: int) -> int:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


@pytest.fixture
def ending(settings: Settings, tmp_path: Path) -> Iterator[ApiServer]:
    """A server of the test's own, which the test stops."""
    made = ApiServer(settings, tmp_path).start()
    yield made
    made.kill()


def test_sigterm_lets_a_request_in_flight_end(ending: ApiServer, api_key: str) -> None:
    content = form(pictures.jpeg())
    with ending.connect() as connection:
        connection.sendall(head(api_key, f"Content-Length: {len(content)}") + content[:300])
        time.sleep(0)  # the head is in the kernel's hands; the server reads it before or after the signal
        _wait_for_upload(ending)
        os.kill(ending.pid, signal.SIGTERM)
        _wait_for_closing(ending)
        connection.sendall(content[300:])
        status, headers, _ = answer_of(connection)
    assert status == 202
    assert headers["connection"] == "close"
    assert ending.stop() == 0


def _wait_for_closing(server: ApiServer) -> None:
    """Until the server takes no more connections: the signal may come later than the rest of the upload."""
    deadline = time.monotonic() + 10
    while listening(urlsplit(server.url).port or 0):
        assert time.monotonic() < deadline, "the server went on listening"
        time.sleep(0.02)


def _wait_for_upload(server: ApiServer) -> None:
    """Until the server has opened the spool of an upload: an unnamed file among its descriptors."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if any("(deleted)" in link for link in _descriptors(server.pid)):
            return
        time.sleep(0.02)
    raise AssertionError("no upload was seen")


def _descriptors(pid: int) -> Iterator[str]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed between the listing and the look
            yield os.readlink(link)


def test_with_redis_away_intake_goes_on_and_answers_as_fast(
    settings: Settings, tmp_path: Path, api_key: str, sessions: Sessions
) -> None:
    """Refused, and worse: a Redis that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (free_port(), silent.getsockname()[1]):
            server = ApiServer(settings, tmp_path, ASSAY_REDIS_URL=f"redis://127.0.0.1:{port}/0").start()
            with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {api_key}"}) as http:
                for _ in range(10):
                    still_works(http)
                ready = http.get("/readyz")
            assert (ready.status_code, ready.json()["checks"]["redis"]) == (200, "away")
            assert server.stop() == 0
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Screening)) == 20


def test_a_doorbell_reaches_redis_after_the_commit(http: httpx.Client, redis_server: EmbeddedRedis) -> None:
    import redis

    with redis.Redis.from_url(redis_server.url) as client:
        before = client.llen("screenings")
        id = http.post(URL, files={"image": ("a.jpg", pictures.jpeg())}).json()["id"]
        deadline = time.monotonic() + 10
        while client.llen("screenings") == before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert id.encode() in client.lindex("screenings", 0)


def test_several_processes_share_one_rate_and_one_set_of_figures(
    settings: Settings, tmp_path: Path, api_key: str, sessions: Sessions
) -> None:
    port = free_port()
    limits = {"ASSAY_DEFAULT_BURST": "10", "ASSAY_DEFAULT_RATE_PER_SECOND": "0.01", "ASSAY_METRICS_PORT": str(port)}
    server = ApiServer(settings, tmp_path, workers=2, **limits).start()
    try:
        statuses = [
            httpx.get(f"{server.url}{URL}", headers={"Authorization": f"Bearer {api_key}"}).status_code
            for _ in range(14)
        ]
        figures = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    finally:
        server.stop()
    assert statuses == [200] * 10 + [429] * 4
    [counted] = [
        line for line in figures.splitlines()
        if line.startswith("assay_api_request_seconds_count") and 'route="/v1/screenings"' in line and '"200"' in line
    ]  # fmt: skip
    assert float(counted.split()[-1]) == 10
    assert "assay_oldest_due_seconds 0.0" in figures


def test_the_log_is_json_and_holds_no_secret_and_no_words(ending: ApiServer, api_key: str) -> None:
    words = {"client_ref": "anna", "metadata": '{"who": "anna"}'}
    with httpx.Client(base_url=ending.url, headers={"Authorization": f"Bearer {api_key}"}, timeout=30) as http:
        answer = http.post(URL, files={"image": ("anna.jpg", pictures.jpeg())}, data=words)
        http.get(f"{URL}?client_ref=anna")
        http.get("/anna/%61nna")
    assert ending.stop() == 0
    text = ending.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    [line] = [line for line in lines if line.get("request_id") == answer.headers["x-request-id"]]
    assert (line["route"], line["status"], line["method"]) == (URL, 202, "POST")
    assert "anna" not in text
    assert api_key not in text
    assert "secret" not in text


def test_wrong_settings_are_said_at_start(settings: Settings, tmp_path: Path) -> None:
    from screening.embedded.process import ServerDidNotStartError

    with pytest.raises(ServerDidNotStartError, match="ASSAY_SECRET_KEYS"):
        ApiServer(settings, tmp_path, ASSAY_SECRET_KEYS="").start()
