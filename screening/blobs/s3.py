"""How do blobs lie in S3? Under prefix and key, through boto3, with its errors turned into ours."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any, BinaryIO, Literal
from uuid import uuid4

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from screening.errors import BlobNotFoundError, BlobStoreError

MISSING = {"404", "NoSuchKey", "NotFound"}
DELETE_AT_ONCE = 1000  # the API's own limit for one DeleteObjects


class S3Store:
    """Blobs as objects of one bucket. The client is thread-safe and is made on first use, after any fork."""

    def __init__(self, bucket: str, prefix: str = "", endpoint_url: str | None = None) -> None:
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self.endpoint_url = endpoint_url
        self._made: Any = None

    @property
    def _client(self) -> Any:
        if self._made is None:
            config = Config(
                connect_timeout=5,
                read_timeout=30,
                retries={"max_attempts": 3, "mode": "standard"},
                max_pool_connections=32,
                # Said aloud, because boto3 presigns by version 2 where it still can, which encrypted buckets refuse.
                signature_version="s3v4",
                s3={"addressing_style": self._addressing, "us_east_1_regional_endpoint": "regional"},
            )
            self._made = boto3.session.Session().client("s3", endpoint_url=self.endpoint_url, config=config)
        return self._made

    @property
    def _addressing(self) -> Literal["virtual", "auto"]:
        """Amazon's regional hosts, where boto3 would presign for the global one, which redirects new buckets.

        Its choice stands for other makers' endpoints, and for a name with dots, which fits no certificate as a host.
        """
        return "virtual" if self.endpoint_url is None and "." not in self.bucket else "auto"

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "unknown")
            if code in MISSING:
                raise BlobNotFoundError(key) from error
            raise BlobStoreError(f"the object store answered {code} for {key}", code) from error
        except BotoCoreError as error:
            raise BlobStoreError(f"the object store could not be reached for {key}: {error}") from error

    def put(self, key: str, data: bytes | BinaryIO, content_type: str = "application/octet-stream") -> None:
        """One PutObject, which is atomic."""
        with self._errors(key):
            self._client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=data, ContentType=content_type)

    def get(self, key: str) -> bytes:
        """The whole object."""
        return b"".join(self.stream(key, 1 << 20))

    def stream(self, key: str, chunk: int = 65536) -> Generator[bytes, None, None]:
        """The object in chunks, requested now so that a missing one is known before an answer has begun."""
        with self._errors(key):
            body = self._client.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"]

        def chunks() -> Generator[bytes, None, None]:
            with self._errors(key), closing(body):  # read to its end or not, the connection is free again
                yield from body.iter_chunks(chunk)

        return chunks()

    def exists(self, key: str) -> bool:
        """One HeadObject."""
        try:
            with self._errors(key):
                self._client.head_object(Bucket=self.bucket, Key=self.prefix + key)
        except BlobNotFoundError:
            return False
        return True

    def delete(self, keys: Iterable[str]) -> None:
        """DeleteObjects, a thousand at a time."""
        pending = iter(keys)
        while batch := list(islice(pending, DELETE_AT_ONCE)):
            objects = [{"Key": self.prefix + key} for key in batch]
            with self._errors(batch[0]):
                answer = self._client.delete_objects(Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True})
            if failed := answer.get("Errors"):
                raise BlobStoreError(f"could not delete {len(failed)} objects, the first: {failed[0].get('Code')}")

    def keys(self, prefix: str) -> Iterator[str]:
        """Every key below the prefix, page by page."""
        with self._errors(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            )
            for page in pages:
                yield from (item["Key"].removeprefix(self.prefix) for item in page.get("Contents", []))

    def signed_url(self, key: str, seconds: int) -> str | None:
        """A presigned GET."""
        with self._errors(key):
            url: str = self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self.bucket, "Key": self.prefix + key}, ExpiresIn=seconds
            )
        return url

    def check(self) -> None:
        """Write and remove a probe."""
        key = f"probe/{uuid4().hex}"
        self.put(key, b"")
        self.delete([key])
