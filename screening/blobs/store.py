"""What must a blob store do? This protocol says it, and one conformance suite holds every store to it."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from screening.blobs.local import LocalStore
from screening.blobs.s3 import S3Store
from screening.errors import ConfigurationError


class BlobStore(Protocol):
    """Bytes under keys. Methods block; the API calls them from threads.

    Writing is atomic: a reader sees the whole old blob, the whole new one, or none. All raise BlobStoreError where the
    store fails, and reading raises BlobNotFoundError where nothing lies under the key.
    """

    def put(self, key: str, data: bytes | BinaryIO, content_type: str = "application/octet-stream") -> None:
        """Store bytes, or a binary file from its present position to its end, under a key."""
        ...

    def get(self, key: str) -> bytes:
        """The whole blob."""
        ...

    def stream(self, key: str, chunk: int = 65536) -> Iterator[bytes]:
        """The blob in chunks of at most `chunk` bytes; raises before the first chunk if it is not there."""
        ...

    def exists(self, key: str) -> bool:
        """Whether a blob lies under the key."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove blobs; what is not there is no error."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Every key that starts with the prefix."""
        ...

    def signed_url(self, key: str, seconds: int) -> str | None:
        """A short-lived address that serves the blob, or None where the store has none to give."""
        ...

    def check(self) -> None:
        """Raise BlobStoreError unless the store can be written to."""
        ...


def open_store(blob_url: str, s3_endpoint_url: str | None = None) -> BlobStore:
    """The store behind `file:///folder` or `s3://bucket/prefix`."""
    parts = urlsplit(blob_url)
    if parts.scheme == "file" and parts.path:
        return LocalStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return S3Store(parts.netloc, parts.path.strip("/"), s3_endpoint_url)
    raise ConfigurationError(f"ASSAY_BLOB_URL must be file:///folder or s3://bucket/prefix, not {blob_url!r}")


def uri(blob_url: str, key: str) -> str:
    """The durable address of a blob, as findings and webhooks name it."""
    return f"{blob_url.rstrip('/')}/{key}"
