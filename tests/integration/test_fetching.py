"""Sources are fetched over real sockets, from real HTTP and S3 servers, and every way they fail has its name."""

import random
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest
from moto.server import ThreadedMotoServer

from screening.errors import BlobStoreError, FailureCode
from screening.settings import Settings
from worker.fetching import MAX_REDIRECTS, Fetcher, FetchError

LOOPBACK = "127.0.0.0/8"
FAILED, REFUSED = FailureCode.FETCH_FAILED, FailureCode.FETCH_REFUSED


class Site(BaseHTTPRequestHandler):
    """A site with every kind of page that a fetcher should survive."""

    protocol_version = "HTTP/1.1"
    over = threading.Event()
    asked: list[dict[str, str]] = []  # noqa: RUF012 - shared by the requests of one test on purpose

    def do_GET(self) -> None:
        self.asked.append(dict(self.headers))
        name, _, argument = self.path.strip("/").partition("/")
        getattr(self, f"page_{name}")(argument)

    def page_photo(self, size: str) -> None:
        self._answer(200, bytes(int(size)))

    def page_status(self, status: str) -> None:
        self._answer(int(status), b"")

    def page_hop(self, left: str) -> None:
        target = "/photo/10" if int(left) == 0 else f"../hop/{int(left) - 1}"
        self._answer(302, b"", Location=target)

    def page_to(self, target: str) -> None:
        self._answer(307, b"", Location=target)

    def page_endless(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while not self.over.wait(0.02):
                self.wfile.write(b"1\r\nx\r\n")
        except OSError:
            return
        finally:
            self.close_connection = True

    def page_broken(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"short")
        self.close_connection = True

    def page_silent(self, _: str) -> None:
        self.over.wait(60)
        self.close_connection = True

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    Site.over.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    Site.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def fetcher() -> Fetcher:
    return Fetcher(Settings(allowed_ranges=LOOPBACK, fetch_seconds=15.0, max_bytes=10_000))


def refusal(fetcher: Fetcher, url: str) -> FetchError:
    with pytest.raises(FetchError) as refused:
        fetcher.fetch({"url": url}, [])
    return refused.value


def test_a_url_gives_its_bytes_and_is_told_who_asks(fetcher: Fetcher, site: str) -> None:
    Site.asked.clear()
    assert fetcher.fetch({"url": f"{site}/photo/10000#top"}, []) == bytes(10_000)
    assert Site.asked[0]["User-Agent"] == "Assay"
    assert "Cookie" not in Site.asked[0]


def test_redirects_are_followed_a_few_times_and_no_further(fetcher: Fetcher, site: str) -> None:
    assert fetcher.fetch({"url": f"{site}/hop/{MAX_REDIRECTS - 1}"}, []) == bytes(10)
    error = refusal(fetcher, f"{site}/hop/{MAX_REDIRECTS}")
    assert (error.failure.code, error.strike) == (FAILED, False)


@pytest.mark.parametrize(
    ("path", "code", "strike"),
    [
        ("photo/10001", FailureCode.TOO_MANY_BYTES, False),
        ("status/404", FAILED, False),
        ("status/403", FAILED, False),
        ("status/204", FAILED, False),
        ("status/302", FAILED, False),
        ("status/429", FAILED, True),
        ("status/500", FAILED, True),
        ("status/503", FAILED, True),
        ("broken", FAILED, True),
        ("to/http://10.0.0.1/", REFUSED, False),
        ("to/http://169.254.169.254/latest/meta-data/", REFUSED, False),
        ("to/http://[64:ff9b::7f00:1]/", REFUSED, False),
        ("to/file:///etc/passwd", REFUSED, False),
        ("to/ftp://127.0.0.1/", REFUSED, False),
        ("to/http://[oops/", REFUSED, False),
        ("to/http://xn--a/", REFUSED, False),
        ("to/http://user:word@127.0.0.1/", REFUSED, False),
    ],
)
def test_every_failure_has_its_name(fetcher: Fetcher, site: str, path: str, code: FailureCode, strike: bool) -> None:
    error = refusal(fetcher, f"{site}/{path}")
    assert (error.failure.code, error.strike) == (code, strike)
    assert error.failure.retryable == (code == FAILED)


@pytest.mark.parametrize("path", ["silent", "endless"])
def test_a_site_that_takes_for_ever_is_left_at_the_deadline(site: str, path: str) -> None:
    hasty = Fetcher(Settings(allowed_ranges=LOOPBACK, fetch_seconds=1.0))
    begin = time.monotonic()
    error = refusal(hasty, f"{site}/{path}")
    assert (error.failure.code, error.strike) == (FAILED, True)
    assert time.monotonic() - begin < 30  # the site itself would take a minute, or never end


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "169.254.169.254",
        "[64:ff9b::7f00:1]",
        "[::1]",
        "localhost",
        "0x7f.1",
        "2130706433",
        "[::ffff:127.0.0.1]",
    ],
)
def test_nothing_but_public_addresses_is_connected_to(site: str, host: str) -> None:
    port = site.rpartition(":")[2]
    Site.asked.clear()
    error = refusal(Fetcher(Settings(fetch_seconds=5)), f"http://{host}:{port}/photo/1")
    assert (error.failure.code, error.strike, error.failure.retryable) == (REFUSED, False, False)
    assert Site.asked == []


def test_a_port_where_nobody_listens_is_tried_again(fetcher: Fetcher, site: str) -> None:
    error = refusal(fetcher, "http://127.0.0.1:1/photo")
    assert (error.failure.code, error.strike) == (FAILED, True)


@pytest.mark.parametrize(
    "url", ["", "photo.jpg", "http://", "gopher://127.0.0.1/", "http://127.0.0.1:99999/", "\0", "http://xn--a/"]
)
def test_what_is_no_url_is_refused(fetcher: Fetcher, url: str) -> None:
    assert refusal(fetcher, url).failure.code == REFUSED


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch, rng: random.Random) -> str:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = f"uploads-{rng.randrange(10**9)}"
    client = boto3.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket=name)
    client.put_object(Bucket=name, Key="2026/a cat.jpg", Body=b"meow")
    client.put_object(Bucket=name, Key="large", Body=bytes(10_001))
    return name


def object_fetcher(s3: str) -> Fetcher:
    return Fetcher(Settings(s3_endpoint_url=s3, max_bytes=10_000))


def test_an_object_of_an_allowed_bucket_gives_its_bytes(s3: str, bucket: str) -> None:
    assert object_fetcher(s3).fetch({"object": f"s3://{bucket}/2026/a cat.jpg"}, {bucket}) == b"meow"


@pytest.mark.parametrize(
    ("name", "allowed", "code"),
    [
        ("s3://{bucket}/2026/a cat.jpg", "other", FailureCode.OBJECT_FORBIDDEN),
        ("s3://{bucket}/2026/a dog.jpg", "{bucket}", FailureCode.OBJECT_NOT_FOUND),
        ("s3://never-made/cat.jpg", "never-made", FailureCode.OBJECT_NOT_FOUND),
        ("s3://{bucket}/large", "{bucket}", FailureCode.TOO_MANY_BYTES),
        ("s3://{bucket}x/2026/a cat.jpg", "{bucket}", FailureCode.OBJECT_FORBIDDEN),
    ],
)
def test_other_objects_end_with_their_reason(s3: str, bucket: str, name: str, allowed: str, code: FailureCode) -> None:
    with pytest.raises(FetchError) as refused:
        object_fetcher(s3).fetch({"object": name.format(bucket=bucket)}, [allowed.format(bucket=bucket)])
    assert (refused.value.failure.code, refused.value.strike) == (code, False)


def test_an_object_store_that_is_away_is_nobodys_fault(bucket: str) -> None:
    with pytest.raises(BlobStoreError):
        object_fetcher("http://127.0.0.1:1").fetch({"object": f"s3://{bucket}/large"}, {bucket})
