"""An object store that goes away while images are read from it and masks are written to it."""

import random
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from screening.embedded.process import free_port
from tests.faults.conftest import UPLOADS
from tests.running_line import RunningLine, picture, running_line, wait_for

# boto3's own: the credentials it makes of the environment use a deprecated clock.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore")

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1"}


class ObjectStore:
    """moto's S3 server, which keeps its objects over a restart on the same port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        self._server.stop()


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    store = ObjectStore()
    boto3.client("s3", endpoint_url=store.url).create_bucket(Bucket="assay")
    yield store
    store.stop()


@pytest.fixture
def line(run_folder: Path, objects: ObjectStore) -> Iterator[RunningLine]:
    where = {"ASSAY_BLOB_URL": "s3://assay/blobs", "ASSAY_S3_ENDPOINT_URL": objects.url}
    with running_line(run_folder / "s3", where) as running:
        running.start("sweeper")
        running.screen_worker()
        yield running


def test_the_object_store_is_away_for_a_while(line: RunningLine, objects: ObjectStore, rng: random.Random) -> None:
    intakes = [line.put(picture(rng)) for _ in range(UPLOADS)]
    half = UPLOADS // 2
    ids = [line.enqueue(intake) for intake in intakes[:half]]
    wait_for("some have ended", lambda: line.states(ids)["succeeded"] > 0)
    objects.stop()
    ids += [line.enqueue(intake) for intake in intakes[half:]]
    wait_for("something is given back", lambda: line.released(ids, "blob_store") > 0)
    objects.start()
    line.wait_ended(ids)
    line.check(ids)
