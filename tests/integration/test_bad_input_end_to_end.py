"""The whole corpus through a real API and a real worker: each input ends as it should, and the service goes on.

Everything is sent first, then each test looks at how one input ended. Between bad inputs lie good ones, which must all
succeed. Without ASSAY_SOAK=1 the largest and most of the 40 orientations stay out, which `test_bad_input` covers.
"""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from PIL import Image

from screening import api_keys
from screening.api_keys import Scope
from screening.embedded.process import free_port, listening
from screening.ids import Prefix, decode
from tests.corpus import FAILED_BY_THE_WORKER, REFUSED_AT_INTAKE, SCREENED, Case
from tests.pictures import jpeg
from tests.problems import assert_problem
from tests.running_line import RunningLine, running_line, wait_for

# The first test waits for the whole corpus.
pytestmark = pytest.mark.timeout(900)

URL = "/v1/screenings"
ENDED = ("succeeded", "failed")
GOOD_EVERY = 15  # inputs between two good pictures
STATUS = {"undecodable_header": 400, "unsupported_format": 415, "too_many_pixels": 422, "too_many_bytes": 413}
SOAK = os.environ.get("ASSAY_SOAK") == "1"


def goes_in(case: Case) -> bool:
    turned = "orientation" in case.name
    return SOAK or not (case.huge or (turned and not case.name.endswith(("JPEG, EXIF orientation 3", "6"))))


SEEN = [case for case in SCREENED if goes_in(case)]
SENT = [*REFUSED_AT_INTAKE, *FAILED_BY_THE_WORKER, *SEEN]
SETTINGS = {
    # The site of redirects below; every other loopback address stays refused.
    "ASSAY_ALLOWED_RANGES": "127.0.0.2/32",
    "ASSAY_FETCH_SECONDS": "2",
    "ASSAY_BODY_SECONDS": "3",
    "ASSAY_SECRET_KEYS": "a-key-of-this-test-that-is-long-enough-for-any-check",
    "ASSAY_DEFAULT_RATE_PER_SECOND": "10000",
    "ASSAY_DEFAULT_BURST": "10000",
}


@dataclass
class Service:
    """A line with an API, and what was sent to it."""

    line: RunningLine
    port: int
    client: httpx.Client
    answers: dict[str, httpx.Response] = field(default_factory=dict)

    def send(self, data: bytes, name: str = "upload.jpg") -> httpx.Response:
        return self.client.post(URL, files={"image": (name, data)}, timeout=60)

    def send_source(self, **source: str) -> httpx.Response:
        return self.client.post(URL, json={"source": source})

    def get(self, id: str) -> dict[str, Any]:
        answer = self.client.get(f"{URL}/{id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def ended(self, id: str, seconds: float = 90) -> dict[str, Any]:
        wait_for(f"{id} ends", lambda: self.get(id)["state"] in ENDED, seconds)
        return self.get(id)

    def screens_a_good_picture(self) -> None:
        answer = self.send(jpeg(80, 50))
        assert answer.status_code == 202, answer.text
        assert self.ended(answer.json()["id"])["state"] == "succeeded"


class Misleading(BaseHTTPRequestHandler):
    """A site that sends whoever asks elsewhere, or talks for ever."""

    over = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            while not self.over.wait(0.05):
                try:
                    self.wfile.write(b"x")
                except OSError:
                    return
        self.send_response(302)
        self.send_header("Location", self.path.removeprefix("/to/"))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    if sys.platform != "linux":
        pytest.skip("needs 127.0.0.2, which Linux alone has without being asked")
    server = ThreadingHTTPServer(("127.0.0.2", 0), Misleading)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.2:{server.server_port}"
    Misleading.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def service(run_folder: Path) -> Iterator[Service]:
    port = free_port()
    public = {"ASSAY_PUBLIC_URL": f"http://127.0.0.1:{port}"}
    with running_line(run_folder / "bad-input", SETTINGS | public) as line:
        api = line.start("api", "--port", str(port))
        line.start("sweeper")
        line.screen_worker()
        wait_for("the API listens", lambda: listening(port) or not api.alive)
        assert api.alive, api.log.read_text()
        with line.sessions.begin() as session:
            key = api_keys.create(session, line.platform, frozenset({Scope.READ, Scope.WRITE}))
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
            made = Service(line, port, client)
            send_all(made)
            yield made


def send_all(service: Service) -> None:
    for number, case in enumerate(SENT):
        service.answers[case.name] = service.send(case.make())
        if number % GOOD_EVERY == 0:
            service.answers[f"good {number}"] = service.send(jpeg(70 + number, 50))
    ids = [decode_id(answer) for answer in service.answers.values() if answer.status_code == 202]
    service.line.wait_ended(ids, 600)


def decode_id(answer: httpx.Response) -> UUID:
    found = decode(Prefix.SCREENING, answer.json()["id"])
    assert found is not None
    return found


def named(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


@named(REFUSED_AT_INTAKE)
def test_intake_answers_with_a_problem(service: Service, case: Case) -> None:
    assert case.problem is not None
    assert_problem(service.answers[case.name], STATUS[case.problem], case.problem)


@named(FAILED_BY_THE_WORKER)
def test_it_fails_with_its_reason_at_the_first_attempt(service: Service, case: Case) -> None:
    found = service.get(service.answers[case.name].json()["id"])
    assert (found["state"], found["error"]["code"], found["attempt"]) == ("failed", case.failure, 1)
    assert found["error"]["retryable"] is False
    assert found["error"]["detail"]


@named(SEEN)
def test_it_is_screened_and_its_mask_lies_on_the_upright_pixels(service: Service, case: Case) -> None:
    assert case.seen is not None
    answer = service.answers[case.name]
    assert answer.status_code == 202, answer.text
    found = service.get(answer.json()["id"])
    assert found["state"] == "succeeded", found["error"]
    height, width, _ = case.seen().shape
    image, localization = found["image"], found["localization"]
    assert (image["width"], image["height"], image["format"]) == (width, height, case.format)
    assert image["frames"] == case.frames
    assert case.reasons <= set(found["verdict"]["reasons"])
    assert (localization["mask"]["width"], localization["mask"]["height"]) == (width, height)
    for name in ("mask", "heatmap"):
        assert_png(service, found["links"][name], (width, height))


def assert_png(service: Service, link: str, size: tuple[int, int]) -> None:
    with Image.open(BytesIO(service.client.get(link, follow_redirects=True).content)) as drawn:
        assert (drawn.format, drawn.mode, drawn.size) == ("PNG", "L", size)


def test_every_good_picture_between_them_succeeded(service: Service) -> None:
    good = [answer.json()["id"] for name, answer in service.answers.items() if name.startswith("good ")]
    assert len(good) == -(-len(SENT) // GOOD_EVERY)
    assert {service.get(id)["state"] for id in good} == {"succeeded"}


def test_each_accepted_input_ended_once_with_one_event(service: Service) -> None:
    accepted = {name: decode_id(answer) for name, answer in service.answers.items() if answer.status_code == 202}
    failed = [accepted[case.name] for case in FAILED_BY_THE_WORKER]
    service.line.check(list(accepted.values()), failed=failed)


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:{port}/livez",
        "http://169.254.169.254/latest/meta-data/",
        "http://[64:ff9b::7f00:1]:{port}/livez",
        "http://[::1]:{port}/livez",
        "http://localhost:{port}/livez",
        "http://0.0.0.0:{port}/livez",
    ],
)
@pytest.mark.parametrize("redirected", [False, True], ids=["named", "redirected"])
def test_a_url_to_ourselves_is_refused(service: Service, site: str, target: str, redirected: bool) -> None:
    target = target.format(port=service.port)
    answer = service.send_source(url=f"{site}/to/{target}" if redirected else target)
    assert answer.status_code == 202, answer.text
    found = service.ended(answer.json()["id"])
    assert (found["state"], found["error"]["code"], found["image"]) == ("failed", "fetch_refused", None)


def test_a_url_that_never_ends_fails(service: Service, site: str) -> None:
    found = service.ended(service.send_source(url=f"{site}/endless").json()["id"])
    assert (found["state"], found["error"]["code"]) == ("failed", "fetch_failed")
    assert found["error"]["retryable"] is True
    service.screens_a_good_picture()


def test_an_object_in_a_foreign_bucket_is_forbidden(service: Service) -> None:
    assert_problem(service.send_source(object="s3://another/cat.jpg"), 403, "object_forbidden")


def test_a_form_without_a_file_is_a_problem(service: Service) -> None:
    answer = service.client.post(URL, files={"client_ref": (None, "a")})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


def test_an_empty_body_is_a_problem(service: Service) -> None:
    for kind in ("application/json", "multipart/form-data; boundary=x", "image/jpeg"):
        answer = service.client.post(URL, headers={"Content-Type": kind})
        assert answer.status_code in (400, 415, 422)
        assert answer.headers["content-type"] == "application/problem+json"


def raw(service: Service, framing: bytes, body: bytes, *, close: bool = False) -> bytes:
    """What comes back for a request whose framing we write ourselves."""
    authorization = service.client.headers["Authorization"].encode()
    head = b"POST /v1/screenings HTTP/1.1\r\nHost: x\r\nAuthorization: " + authorization
    head += b"\r\nContent-Type: multipart/form-data; boundary=x\r\n" + framing + b"\r\n\r\n"
    answer = b""
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(head + body)
        if close:
            connection.shutdown(socket.SHUT_WR)
        while b"\r\n\r\n" not in answer and (data := connection.recv(65536)):
            answer += data
    return answer


def form(data: bytes) -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    return head + data + b"\r\n--x--\r\n"


def test_chunks_of_no_bytes_end_a_body_and_harm_nobody(service: Service) -> None:
    whole = form(jpeg(90, 50))
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (whole[:50], whole[50:]))
    assert b" 202 " in raw(service, b"Transfer-Encoding: chunked", chunked + b"0\r\n\r\n")[:20]
    assert b" 4" in raw(service, b"Transfer-Encoding: chunked", b"0\r\n\r\n")[:20]
    assert b" 4" in raw(service, b"Transfer-Encoding: chunked", b"zz\r\n\r\n")[:20]
    service.screens_a_good_picture()


def test_a_wrong_content_length_is_a_problem_or_an_end(service: Service) -> None:
    whole = form(jpeg(90, 50))
    short = raw(service, b"Content-Length: %d" % (len(whole) // 2), whole)
    assert b" 4" in short[:20], short
    long = raw(service, b"Content-Length: %d" % (2 * len(whole)), whole, close=True)
    assert long == b"" or b" 4" in long[:20], long
    for nonsense in (b"Content-Length: -1", b"Content-Length: many", b"Content-Length: 1\r\nContent-Length: 2"):
        assert b" 4" in raw(service, nonsense, whole)[:20]
    service.screens_a_good_picture()


def test_a_slow_client_is_told_to_hurry_and_holds_up_nobody(service: Service) -> None:
    whole = form(jpeg(90, 50))
    waiting = threading.Thread(target=service.screens_a_good_picture)
    waiting.start()
    answer = raw(service, b"Content-Length: %d" % len(whole), whole[:100])
    assert b" 408 " in answer[:20], answer
    waiting.join()
    service.screens_a_good_picture()
