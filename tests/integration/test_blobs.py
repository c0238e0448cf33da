"""What every blob store must do, held against local files and against a real S3 API over HTTP."""

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from screening.blobs import BlobStore, derived_key, image_key, open_store, screening_prefix, uri
from screening.blobs.local import PARTIAL, LocalStore
from screening.blobs.s3 import S3Store
from screening.embedded.process import free_port
from screening.errors import BlobNotFoundError, BlobStoreError, ConfigurationError
from screening.ids import uuid7

# boto3's own: the credentials it makes of the environment use a deprecated clock.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore")


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """moto's S3 server on a free port."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "s"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    bucket = f"bucket-{uuid7().hex}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=bucket)
    return S3Store(bucket, "some/prefix", s3_endpoint)


@pytest.fixture
def local(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "blobs")


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest) -> BlobStore:
    made: BlobStore = request.getfixturevalue(request.param)
    return made


def test_what_was_put_comes_back(store: BlobStore) -> None:
    for content in (b"", b"pixels", bytes(range(256)) * 20_000):
        store.put("a/b/c", content, "image/png")
        assert store.get("a/b/c") == content
        assert b"".join(store.stream("a/b/c", 1000)) == content
        assert store.exists("a/b/c")


def test_a_file_is_stored_from_where_it_stands(store: BlobStore) -> None:
    file = io.BytesIO(b"head" + b"tail" * 300_000)
    file.seek(4)
    store.put("k", file)
    assert store.get("k") == b"tail" * 300_000


def test_chunks_are_as_small_as_asked(store: BlobStore) -> None:
    store.put("k", bytes(10_000))
    assert max(len(chunk) for chunk in store.stream("k", 512)) <= 512


def test_putting_again_replaces(store: BlobStore) -> None:
    store.put("k", b"long and old")
    store.put("k", b"new")
    assert store.get("k") == b"new"


def test_what_is_not_there_is_said_so_before_the_first_chunk(store: BlobStore) -> None:
    store.put("folder/k", b"x")
    for key in ("nothing", "folder", "folder/k/below"):
        with pytest.raises(BlobNotFoundError):
            store.get(key)
        with pytest.raises(BlobNotFoundError):
            store.stream(key)
        assert not store.exists(key)


def test_deleting_what_is_not_there_is_no_error(store: BlobStore) -> None:
    store.put("a/1", b"x")
    store.put("a/2", b"x")
    store.delete(iter(["a/1", "a/nothing"]))
    store.delete([])
    assert sorted(store.keys("")) == ["a/2"]


def test_keys_are_those_that_begin_with_the_prefix(store: BlobStore) -> None:
    keys = {"a/1", "a/12/3", "a/2", "b/1", "ab"}
    for key in keys:
        store.put(key, b"x")
    for prefix in ("", "a", "a/", "a/1", "a/12/", "nothing/"):
        assert set(store.keys(prefix)) == {key for key in keys if key.startswith(prefix)}, prefix


def test_more_than_a_page_is_listed_and_deleted(store: BlobStore) -> None:
    names = {f"many/{number:04}" for number in range(1_050)}
    for name in names:
        store.put(name, b"")
    assert set(store.keys("many/")) == names
    store.delete(store.keys("many/"))
    assert list(store.keys("many/")) == []


def test_a_screenings_files_go_with_its_prefix_and_no_others(store: BlobStore) -> None:
    platform, one, other = uuid7(), uuid7(), uuid7()
    for screening in (one, other):
        store.put(image_key(platform, screening), b"image")
        store.put(derived_key(platform, screening, 1, "mask.png"), b"mask")
    store.delete(store.keys(screening_prefix(platform, one)))
    assert {key.split("/")[1] for key in store.keys("")} == {other.hex}


def test_readers_see_the_old_or_the_new_and_nothing_between(store: BlobStore) -> None:
    versions = [bytes([number]) * 300_000 for number in range(6)]
    store.put("k", versions[0])
    seen: list[bytes] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(store.get("k"))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for version in versions[1:]:
        store.put("k", version)
    done.set()
    for reader in readers:
        reader.join()
    assert {bytes(content) for content in seen} <= set(versions)


def test_a_signed_address_serves_the_blob_where_there_is_one(store: BlobStore) -> None:
    store.put("k", b"pixels", "image/png")
    url = store.signed_url("k", 60)
    if url is None:
        assert isinstance(store, LocalStore)
        return
    answer = httpx.get(url)
    assert (answer.content, answer.headers["content-type"]) == (b"pixels", "image/png")


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_a_signed_address_names_the_region_and_the_present_signature(
    region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The global host redirects to a new bucket's region, where the signature no longer fits."""
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "s"), ("DEFAULT_REGION", region)):
        monkeypatch.setenv(f"AWS_{name}", value)
    for bucket, begin in (
        ("assay-blobs", f"https://assay-blobs.s3.{region}.amazonaws.com/some/prefix/k?"),
        ("assay.example.com", f"https://s3.{region}.amazonaws.com/assay.example.com/some/prefix/k?"),
    ):
        url = S3Store(bucket, "some/prefix").signed_url("k", 60)
        assert url is not None
        assert url.startswith(begin), url
        asked = httpx.URL(url).params
        assert (asked["X-Amz-Algorithm"], asked["X-Amz-Expires"]) == ("AWS4-HMAC-SHA256", "60")


def test_a_check_leaves_nothing_behind(store: BlobStore) -> None:
    store.check()
    assert list(store.keys("")) == []


def test_a_store_that_is_away_says_so_in_our_words(tmp_path: Path, s3: S3Store) -> None:
    (tmp_path / "file").write_text("in the way")
    stores: list[BlobStore] = [
        LocalStore(tmp_path / "file"),
        S3Store("no-such-bucket", "", s3.endpoint_url),
        S3Store("bucket", "", f"http://127.0.0.1:{free_port()}"),
    ]
    for away in stores:
        with pytest.raises(BlobStoreError):
            away.put("k", b"x")
        with pytest.raises(BlobStoreError):
            away.check()
    with pytest.raises(BlobStoreError):
        list(stores[2].keys(""))


@pytest.mark.parametrize("key", ["", "/etc/passwd", "a/../../b", "a//b", "./a", "a/.", "a\0b", f"{PARTIAL}1"])
def test_a_local_key_never_leaves_the_folder(local: LocalStore, key: str) -> None:
    for act in (lambda: local.put(key, b"x"), lambda: local.get(key), lambda: local.exists(key)):
        with pytest.raises(BlobStoreError):
            act()


def test_a_write_that_breaks_leaves_the_old_blob(local: LocalStore) -> None:
    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError("the disk is gone")

    local.put("k", b"old")
    with pytest.raises(BlobStoreError):
        local.put("k", Breaking())
    assert local.get("k") == b"old"
    assert list(local.keys("")) == ["k"]
    assert [path.name for path in local.root.iterdir()] == ["k"]


def test_writing_and_tidying_at_once_lose_nothing(local: LocalStore) -> None:
    """A folder vanishes with its last blob while another is being written into it."""

    def churn(name: str) -> None:
        for _ in range(100):
            local.put(f"platform/{name}/image", b"x")
            local.delete([f"platform/{name}/image"])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(churn, "abcd"))
    assert list(local.keys("")) == []


@pytest.mark.parametrize("url", ["", "file://", "http://x/y", "s3:///prefix", "/folder"])
def test_an_address_that_is_none_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="ASSAY_BLOB_URL"):
        open_store(url)


def test_uris_name_store_and_key() -> None:
    assert uri("s3://bucket/prefix/", "a/b") == "s3://bucket/prefix/a/b"
    assert isinstance(open_store("s3://bucket/prefix"), S3Store)
    assert isinstance(open_store("file:///tmp/with%20space"), LocalStore)
