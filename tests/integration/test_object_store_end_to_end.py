"""The whole service on S3: uploads and objects in, signed addresses out, nothing left after erasing."""

import hashlib
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from screening import api_keys
from screening.api_keys import Scope
from screening.embedded.process import free_port, listening
from screening.tables import Platform
from tests.object_store import CREDENTIALS, ObjectStore
from tests.problems import assert_problem
from tests.running_line import RunningLine, picture, running_line, wait_for

pytestmark = [
    pytest.mark.timeout(300),
    # boto3's own: the credentials it makes of the environment use a deprecated clock.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore"),
]

URL = "/v1/screenings"
ENDED = ("succeeded", "failed")
PARTS = {"image": "image/jpeg", "mask": "image/png", "heatmap": "image/png", "overlay": "image/jpeg"}


@dataclass
class Service:
    """API, worker and sweeper over one bucket."""

    line: RunningLine
    objects: ObjectStore
    client: httpx.Client

    def ended(self, answer: httpx.Response) -> dict[str, Any]:
        assert answer.status_code == 202, answer.text
        path = f"{URL}/{answer.json()['id']}"
        wait_for("it ends", lambda: self.client.get(path).json()["state"] in ENDED, 90)
        found: dict[str, Any] = self.client.get(path).json()
        return found

    def send(self, data: bytes) -> httpx.Response:
        return self.client.post(URL, files={"image": ("a.jpg", data)})

    def send_object(self, name: str) -> httpx.Response:
        return self.client.post(URL, json={"source": {"object": name}})

    def stored(self, bucket: str = "assay") -> set[str]:
        listed = self.objects.client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {item["Key"] for item in listed}


@pytest.fixture(scope="module")
def objects() -> Iterator[ObjectStore]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        store = ObjectStore()
        for bucket in ("assay", "acme-uploads", "another"):
            store.client.create_bucket(Bucket=bucket)
        yield store
        store.stop()


@pytest.fixture(scope="module")
def service(run_folder: Path, objects: ObjectStore) -> Iterator[Service]:
    port = free_port()
    extra = {
        "ASSAY_BLOB_URL": "s3://assay/blobs",
        "ASSAY_S3_ENDPOINT_URL": objects.url,
        "ASSAY_SECRET_KEYS": "a-key-of-this-test-that-is-long-enough-for-any-check",
        "ASSAY_PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    with running_line(run_folder / "s3-whole", extra) as line:
        api = line.start("api", "--port", str(port))
        line.start("sweeper")
        line.screen_worker()
        wait_for("the API listens", lambda: listening(port) or not api.alive)
        assert api.alive, api.log.read_text()
        with line.sessions.begin() as session:
            session.get_one(Platform, line.platform).buckets = ["acme-uploads"]
            key = api_keys.create(session, line.platform, frozenset({Scope.READ, Scope.WRITE}))
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key}"}, timeout=60
        ) as client:
            yield Service(line, objects, client)


@pytest.fixture(scope="module")
def sent() -> bytes:
    return picture(random.Random(7), 200, 120)


@pytest.fixture(scope="module")
def found(service: Service, sent: bytes) -> dict[str, Any]:
    made = service.ended(service.send(sent))
    assert made["state"] == "succeeded", made["error"]
    return made


def test_findings_name_their_objects_durably(service: Service, found: dict[str, Any], sent: bytes) -> None:
    for part in ("mask", "heatmap"):
        uri, digest = found["localization"][part]["uri"], found["localization"][part]["sha256"]
        assert uri.startswith("s3://assay/blobs/")
        stored = service.objects.client.get_object(Bucket="assay", Key=uri.removeprefix("s3://assay/"))
        assert hashlib.sha256(stored["Body"].read()).hexdigest() == digest
        assert stored["ContentType"] == "image/png"
    assert found["image"]["sha256"] == hashlib.sha256(sent).hexdigest()


@pytest.mark.parametrize("part", PARTS)
def test_bytes_come_by_a_short_lived_signed_address(
    service: Service, found: dict[str, Any], sent: bytes, part: str
) -> None:
    answer = service.client.get(found["links"][part])
    assert answer.status_code == 307, answer.text
    assert answer.headers["cache-control"] == "no-store"
    address = httpx.URL(answer.headers["location"])
    assert (address.host, address.port) == ("127.0.0.1", service.objects.port)
    assert int(address.params["X-Amz-Expires"]) <= 60
    assert address.params["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    # As curl -L and httpx do it: the key stays behind, because it is for another host.
    fetched = httpx.get(address)
    assert (fetched.status_code, fetched.headers["content-type"]) == (200, PARTS[part])
    if part == "image":
        assert fetched.content == sent
    with Image.open(BytesIO(fetched.content)) as drawn:
        assert drawn.size == (200, 120)
    followed = service.client.get(found["links"][part], follow_redirects=True)
    assert followed.content == fetched.content
    assert "authorization" not in followed.request.headers


def test_a_copy_that_is_still_right_is_not_sent_anywhere(service: Service, found: dict[str, Any]) -> None:
    digest = found["localization"]["mask"]["sha256"]
    answer = service.client.get(found["links"]["mask"], headers={"If-None-Match": f'"{digest}"'})
    assert (answer.status_code, answer.content) == (304, b"")


@pytest.mark.parametrize("key", ["2026/cat.jpg", "a b/ä+%2F?#.jpg", "../cat.jpg", "/cat.jpg"])
def test_an_object_of_the_platforms_bucket_is_screened(service: Service, rng: random.Random, key: str) -> None:
    data = picture(rng, 88, 64)
    service.objects.client.put_object(Bucket="acme-uploads", Key=key, Body=data)
    answer = service.send_object(f"s3://acme-uploads/{key}")
    assert answer.json()["image"] is None
    made = service.ended(answer)
    assert (made["state"], made["error"]) == ("succeeded", None)
    assert made["image"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert (made["image"]["width"], made["image"]["height"]) == (88, 64)
    assert service.client.get(made["links"]["image"], follow_redirects=True).content == data


def test_objects_that_cannot_be_screened_fail_with_their_reason(service: Service) -> None:
    put = service.objects.client.put_object
    put(Bucket="acme-uploads", Key="large.jpg", Body=bytes(30_000_000))
    put(Bucket="acme-uploads", Key="text.jpg", Body=b"Dear sir")
    put(Bucket="acme-uploads", Key="empty.jpg", Body=b"")
    for key, code in {
        "large.jpg": "too_many_bytes",
        "text.jpg": "unsupported_format",
        "empty.jpg": "undecodable",
        "none.jpg": "object_not_found",
    }.items():
        made = service.ended(service.send_object(f"s3://acme-uploads/{key}"))
        assert (made["state"], made["error"]["code"], made["image"]) == ("failed", code, None), key
        assert made["links"]["image"] is None
        assert_problem(service.client.get(f"{URL}/{made['id']}/image"), 404, "not_ready")


@pytest.mark.parametrize("bucket", ["another", "assay", "no-such-bucket", "acme-uploads.evil", "ACME-UPLOADS"])
def test_foreign_buckets_are_forbidden_whether_they_exist_or_not(service: Service, bucket: str) -> None:
    """Assay's own among them: its credentials could read every platform's images there."""
    answer = service.send_object(f"s3://{bucket}/cat.jpg")
    assert answer.status_code in (403, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_bucket_that_was_closed_after_the_answer_is_not_read(service: Service, rng: random.Random) -> None:
    service.objects.client.put_object(Bucket="another", Key="cat.jpg", Body=picture(rng))
    with service.line.sessions.begin() as session:
        session.get_one(Platform, service.line.platform).buckets = ["acme-uploads", "another"]
    [worker] = [process for process in service.line.processes if process.name == "worker screen"]
    worker.send_all(signal.SIGSTOP)  # so that it cannot be faster than the operator
    try:
        answer = service.send_object("s3://another/cat.jpg")
        with service.line.sessions.begin() as session:
            session.get_one(Platform, service.line.platform).buckets = ["acme-uploads"]
    finally:
        worker.send_all(signal.SIGCONT)
    made = service.ended(answer)
    assert (made["state"], made["error"]["code"]) == ("failed", "object_forbidden")


def test_erasing_leaves_no_object(service: Service, rng: random.Random) -> None:
    made = service.ended(service.send(picture(rng)))
    prefix = made["localization"]["mask"]["uri"].removeprefix("s3://assay/").rpartition("/")[0].rpartition("/")[0]
    service.client.get(made["links"]["overlay"])
    assert len([key for key in service.stored() if key.startswith(prefix)]) >= 3
    assert service.client.delete(made["links"]["self"]).status_code == 204
    wait_for("its objects are gone", lambda: not [key for key in service.stored() if key.startswith(prefix)])
    for part in PARTS:
        assert_problem(service.client.get(made["links"][part]), 410, "erased")


def test_without_its_store_intake_says_so_and_goes_on_after(
    service: Service, found: dict[str, Any], rng: random.Random
) -> None:
    made = service.ended(service.send(picture(rng)))  # whose overlay nobody has drawn yet
    service.objects.stop()
    try:
        answer = service.send(picture(rng))
        assert_problem(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert_problem(service.client.get(made["links"]["overlay"]), 503, "unavailable")
        # A signature needs nobody; the bytes then come when the store is back.
        assert service.client.get(found["links"]["mask"]).status_code == 307
        assert service.client.get(found["links"]["self"]).status_code == 200
    finally:
        service.objects.start()
    assert service.client.get(made["links"]["overlay"]).status_code == 307
    assert service.ended(service.send(picture(rng)))["state"] == "succeeded"
