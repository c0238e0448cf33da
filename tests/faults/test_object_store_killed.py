"""An object store that goes away while images are read from it and masks are written to it."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import UPLOADS
from tests.object_store import CREDENTIALS, ObjectStore
from tests.running_line import RunningLine, picture, running_line, wait_for

# boto3's own: the credentials it makes of the environment use a deprecated clock.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore")


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    store = ObjectStore()
    store.client.create_bucket(Bucket="assay")
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
