"""How are the bytes behind a URL or an object name brought here, under limits, and what does each failure mean?

A URL is a stranger's choice: it is fetched through `screening.outbound`, which connects to public addresses alone, and
redirects are followed by hand so that each hop is checked like the first. Objects are read with the operator's own
credentials, so only from the buckets that the operator opened to the platform.
"""

import time
from collections.abc import Collection, Mapping
from contextlib import closing
from functools import cache

import httpx

from screening import addresses, outbound
from screening.blobs.s3 import S3Store
from screening.errors import AssayError, BlobNotFoundError, BlobStoreError, Failure, FailureCode
from screening.outbound import OutboundError, Reason
from screening.settings import Settings

REDIRECTS = (301, 302, 303, 307, 308)
MAX_REDIRECTS = 3
# Answers that may be another tomorrow. Every other 4xx says that asking again gains nothing.
PASSING = (408, 409, 423, 425, 429)
REFUSED = (Reason.REFUSED_URL, Reason.REFUSED_ADDRESS)
HEADERS = {"User-Agent": "Assay", "Accept": "image/*, */*;q=0.1"}
# What S3 answers where the operator's credentials may not read, and where there is nothing to read.
FORBIDDEN = ("AccessDenied", "AllAccessDisabled", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403")
GONE = ("NoSuchBucket", "NoSuchVersion", "InvalidBucketName")


class FetchError(AssayError):
    """A source gave no bytes. `strike`: asking again later may, so the screening keeps its other tries."""

    def __init__(self, code: FailureCode, detail: str, *, strike: bool = False) -> None:
        super().__init__(detail)
        # A source may come back although we stop asking: sending it again can end differently, unless it is refused.
        self.failure = Failure(code, detail, retryable=code in (FailureCode.FETCH_FAILED, FailureCode.OBJECT_NOT_FOUND))
        self.strike = strike


class Fetcher:
    """Fetches sources; thread-safe, one fetch a thread at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._allowed = addresses.parse_ranges(settings.allowed_ranges)
        self._bucket = cache(lambda name: S3Store(name, endpoint_url=settings.s3_endpoint_url))

    def fetch(self, source: Mapping[str, str], buckets: Collection[str]) -> bytes:
        """The bytes of `{"url": ...}` or `{"object": "s3://bucket/key"}`; the platform may read `buckets`.

        At most `settings.max_bytes` within `settings.fetch_seconds`, redirects included. Raises FetchError, and
        BlobStoreError where the object store itself is away, which is not the source's fault.
        """
        if "object" in source:
            return self._fetch_object(source["object"], buckets)
        return self._fetch_url(source["url"])

    def _fetch_url(self, url: str) -> bytes:
        deadline = time.monotonic() + self._settings.fetch_seconds
        for _ in range(1 + MAX_REDIRECTS):
            answer = self._get(url, deadline - time.monotonic())
            if answer.status not in REDIRECTS:
                return _content(answer)
            url = _redirected(url, answer)
        raise FetchError(FailureCode.FETCH_FAILED, f"The URL redirects more than {MAX_REDIRECTS} times.")

    def _get(self, url: str, seconds: float) -> outbound.Answer:
        limit = self._settings.max_bytes
        try:
            plain = str(httpx.URL(url).copy_with(fragment=None))
            return outbound.fetch(
                plain, seconds=max(seconds, 0.001), max_bytes=limit, allowed=self._allowed, headers=HEADERS
            )
        except (httpx.InvalidURL, ValueError) as error:  # ValueError: what only looks like IDNA
            raise FetchError(FailureCode.FETCH_REFUSED, "The URL cannot be read.") from error
        except OutboundError as error:
            raise self._explained(error) from error

    def _explained(self, error: OutboundError) -> FetchError:
        if error.reason in REFUSED:
            return FetchError(FailureCode.FETCH_REFUSED, str(error))
        if error.reason == Reason.TOO_LARGE:
            return FetchError(FailureCode.TOO_MANY_BYTES, self._too_large)
        if error.reason == Reason.TIMEOUT:
            detail = f"The URL did not answer in full within {self._settings.fetch_seconds:g} seconds."
            return FetchError(FailureCode.FETCH_FAILED, detail, strike=True)
        return FetchError(FailureCode.FETCH_FAILED, str(error), strike=True)

    @property
    def _too_large(self) -> str:
        return f"The source has more than {self._settings.max_bytes} bytes."

    def _fetch_object(self, name: str, buckets: Collection[str]) -> bytes:
        bucket, _, key = name.removeprefix("s3://").partition("/")
        if bucket not in buckets:
            raise FetchError(FailureCode.OBJECT_FORBIDDEN, "The bucket is not open to this platform.")
        try:
            return self._read_object(bucket, key)
        except BlobNotFoundError as error:
            raise FetchError(FailureCode.OBJECT_NOT_FOUND, "There is no such object.") from error
        except BlobStoreError as error:
            if error.code in GONE:
                raise FetchError(FailureCode.OBJECT_NOT_FOUND, "There is no such bucket.") from error
            if error.code in FORBIDDEN:
                raise FetchError(FailureCode.OBJECT_FORBIDDEN, "The operator may not read this object.") from error
            raise

    def _read_object(self, bucket: str, key: str) -> bytes:
        deadline = time.monotonic() + self._settings.fetch_seconds
        data = bytearray()
        with closing(self._bucket(bucket).stream(key)) as chunks:
            for chunk in chunks:
                data += chunk
                if len(data) > self._settings.max_bytes:
                    raise FetchError(FailureCode.TOO_MANY_BYTES, self._too_large)
                if time.monotonic() > deadline:
                    detail = f"The object could not be read within {self._settings.fetch_seconds:g} seconds."
                    raise FetchError(FailureCode.FETCH_FAILED, detail, strike=True)
        return bytes(data)


def _content(answer: outbound.Answer) -> bytes:
    """The body of a success. Raises FetchError for any other status."""
    if answer.status == 200:
        return answer.body
    strike = answer.status >= 500 or answer.status in PASSING
    raise FetchError(FailureCode.FETCH_FAILED, f"The URL answered with status {answer.status}.", strike=strike)


def _redirected(url: str, answer: outbound.Answer) -> str:
    """Where a redirect leads. Raises FetchError where it does not say."""
    location = answer.headers.get("location")
    if not location:
        raise FetchError(FailureCode.FETCH_FAILED, f"The URL answered with status {answer.status} and no location.")
    try:
        return str(httpx.URL(url).join(location))
    except (httpx.InvalidURL, ValueError) as error:
        raise FetchError(FailureCode.FETCH_REFUSED, "The URL redirects to something that is no URL.") from error
