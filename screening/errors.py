"""Which failures does the kernel speak of by name? Each says what to do, and none loses the row it is about."""

from dataclasses import dataclass
from enum import StrEnum


class AssayError(Exception):
    """The root of every error Assay raises on purpose."""


class ConfigurationError(AssayError):
    """A setting is missing or contradicts another; the message names the variable."""


class BlobNotFoundError(AssayError):
    """No blob lies under this key."""


class BlobStoreError(AssayError):
    """The blob store did not do as asked; trying again later may help. `code` is the store's own, where it gave one."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class LegalHoldError(AssayError):
    """The screening is under legal hold and may not be erased."""


class ConflictError(AssayError):
    """Not possible in the present state. `code` is what a client branches on."""

    code = "conflict"


class FailureCode(StrEnum):
    """Why a screening ended as `failed`. Clients read these; they may grow, none is renamed."""

    UNDECODABLE = "undecodable"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TOO_MANY_BYTES = "too_many_bytes"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_MANY_FRAMES = "too_many_frames"
    DECODE_TIMEOUT = "decode_timeout"
    DECODE_CRASHED = "decode_crashed"
    DECODE_MEMORY = "decode_memory"
    INFERENCE_FAILED = "inference_failed"
    WORKER_CRASHED = "worker_crashed"
    FETCH_REFUSED = "fetch_refused"
    FETCH_FAILED = "fetch_failed"
    OBJECT_NOT_FOUND = "object_not_found"
    OBJECT_FORBIDDEN = "object_forbidden"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure as a client reads it: `{code, detail, retryable}`."""

    code: FailureCode
    detail: str
    retryable: bool = False  # whether sending the same image again could end differently
