"""What does a screening look like? The same object in every answer and in webhooks; enums may grow.

These models are the description: answers are written by `screening/document.py`, and a test holds the two together.
"""

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, Field, HttpUrl

from screening.tables import Priority, State


class Part(BaseModel):
    """The root of described objects. They may grow, so readers ignore what they do not know."""


class Pdq(Part):
    """The perceptual hash. It survives resizing and compression, not cropping or turning."""

    hash: str = Field(pattern="^[0-9a-f]{64}$")
    quality: int = Field(ge=0, le=100)


class ImageObject(Part):
    """The bytes that were sent or fetched."""

    id: str = Field(examples=["img_01a208cb102b7af0a440f8aaa5a8f58e"])
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int
    format: str = Field(description="jpeg, png, webp, avif, gif, tiff or bmp.")
    width: int = Field(description="Pixels, upright.")
    height: int = Field(description="Pixels, upright.")
    frames: int | None = Field(description="Counted by the worker; only the first is screened.")
    orientation_applied: bool
    pdq: Pdq | None


class Verdict(Part):
    """Whether. The score is the model's, the probability its calibrated reading; neither is an area."""

    label: str = Field(description="authentic, fake or inconclusive.", examples=["fake"])
    score: float = Field(ge=0, le=1, description="The label follows `score >= 0.5` unless a reason says otherwise.")
    probability: float | None = Field(ge=0, le=1, description="Null without a calibration.")
    calibration_id: str | None
    reasons: list[str] = Field(description="Such as first_frame_only, alpha_composited, calibration_disagrees.")


class StoredFile(Part):
    """A file by its durable address; `links` serve its bytes."""

    uri: str = Field(examples=["s3://assay/blobs/mask.png"])
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Mask(StoredFile):
    """An 8-bit PNG at the image's full upright size, 255 = manipulated."""

    width: int
    height: int


class Region(Part):
    """One connected region of the mask."""

    bbox: list[int] = Field(description="x, y, width, height in upright pixels.", min_length=4, max_length=4)
    area_fraction: float
    mean: float
    max: float


class Localization(Part):
    """Where."""

    area_fraction: float = Field(ge=0, le=1)
    extent: str = Field(description="none, local, whole or unlocalized.")
    mask_verdict_conflict: bool = Field(description="The mask says one thing and the score another.")
    mask: Mask
    heatmap: StoredFile
    regions: list[Region]


class Ruling(Part):
    """What the platform's policy made of it."""

    version: int
    outcome: str = Field(description="allow, review or block.")
    rule: str | None
    guard: str | None = Field(description="Why the outcome is not what the rule alone said.")


class ReviewState(Part):
    """Whether people have looked."""

    id: str
    state: str = Field(description="pending, claimed or decided.")


class Failure(Part):
    """Why a screening failed."""

    code: str = Field(examples=["undecodable"])
    detail: str
    retryable: bool = Field(description="Whether sending the same image again could end differently.")


class Versions(Part):
    """What exactly said so."""

    model: str
    weights_sha256: str
    preprocess: str
    service: str
    reused_from: str | None = Field(description="An exact duplicate's screening, whose finding was copied.")


class Timing(Part):
    """Milliseconds."""

    queued: int
    decode: int
    inference: int
    total: int


class Links(Part):
    """Addresses that serve the bytes to whoever may see them; null until there is something to serve."""

    self: HttpUrl
    image: HttpUrl | None
    mask: HttpUrl | None
    heatmap: HttpUrl | None
    overlay: HttpUrl | None


SUCCEEDED: dict[str, Any] = {
    "id": "scr_01a208cb10607e799deb14f927e1bcd4", "object": "screening", "state": "succeeded", "client_ref": "post-991",
    "metadata": {"author": "4711"}, "priority": "normal", "attempt": 1,
    "image": {
        "id": "img_01a208cb102b7af0a440f8aaa5a8f58e", "sha256": "9f" * 32, "bytes": 81234, "format": "jpeg",
        "width": 1920, "height": 1080, "frames": 1, "orientation_applied": True,
        "pdq": {"hash": "3c" * 32, "quality": 97},
    },
    "verdict": {
        "label": "fake", "score": 0.91, "probability": 0.93, "calibration_id": "isotonic-2026-11", "reasons": [],
    },
    "localization": {
        "area_fraction": 0.12, "extent": "local", "mask_verdict_conflict": False,
        "mask": {"uri": "s3://assay/blobs/mask.png", "sha256": "a1" * 32, "width": 1920, "height": 1080},
        "heatmap": {"uri": "s3://assay/blobs/heatmap.png", "sha256": "b2" * 32},
        "regions": [{"bbox": [410, 220, 300, 280], "area_fraction": 0.08, "mean": 0.91, "max": 0.99}],
    },
    "policy": {"version": 7, "outcome": "review", "rule": "doubtful", "guard": None},
    "review": {"id": "rev_01a208cb102b7af0a440f8aaa5a8f58e", "state": "pending"},
    "error": None,
    "versions": {
        "model": "defakerone", "weights_sha256": "c3" * 32, "preprocess": "1", "service": "0.1.0", "reused_from": None,
    },
    "timing_ms": {"queued": 420, "decode": 38, "inference": 130, "total": 610},
    "created_at": "2026-11-23T14:24:15.190Z", "finished_at": "2026-11-23T14:24:15.800Z",
    "links": {
        "self": "https://assay.example/v1/screenings/scr_01a208cb10607e799deb14f927e1bcd4",
        "image": "https://assay.example/v1/screenings/scr_01a208cb10607e799deb14f927e1bcd4/image",
        "mask": "https://assay.example/v1/screenings/scr_01a208cb10607e799deb14f927e1bcd4/mask",
        "heatmap": "https://assay.example/v1/screenings/scr_01a208cb10607e799deb14f927e1bcd4/heatmap",
        "overlay": "https://assay.example/v1/screenings/scr_01a208cb10607e799deb14f927e1bcd4/overlay",
    },
}  # fmt: skip

QUEUED: dict[str, Any] = SUCCEEDED | {
    "state": "queued", "attempt": 0, "verdict": None, "localization": None, "policy": None, "review": None,
    "versions": None, "timing_ms": None, "finished_at": None,
    "image": SUCCEEDED["image"] | {"frames": None, "pdq": None},
    "links": SUCCEEDED["links"] | {"mask": None, "heatmap": None, "overlay": None},
}  # fmt: skip

FAILED: dict[str, Any] = QUEUED | {
    "state": "failed", "attempt": 1, "finished_at": "2026-11-23T14:24:15.800Z",
    "error": {"code": "undecodable", "detail": "The image data is damaged.", "retryable": False},
}  # fmt: skip


class ScreeningObject(Part):
    """A screening, whatever its state. What does not exist yet is null."""

    id: str = Field(examples=["scr_01a208cb10607e799deb14f927e1bcd4"])
    object: Literal["screening"]
    state: State
    client_ref: str | None
    metadata: dict[str, Any]
    priority: Priority
    attempt: int = Field(description="How often a worker has taken it.")
    image: ImageObject | None = Field(description="Null for a source until it was fetched.")
    verdict: Verdict | None
    localization: Localization | None
    policy: Ruling | None
    review: ReviewState | None
    error: Failure | None
    versions: Versions | None
    timing_ms: Timing | None
    created_at: AwareDatetime
    finished_at: AwareDatetime | None
    links: Links


class ScreeningPage(Part):
    """Some screenings, newest first."""

    object: Literal["list"]
    data: list[ScreeningObject]
    next_cursor: str | None = Field(description="For the next page; null on the last. Also in the Link header.")


ACCEPTED_RESPONSE: dict[str, Any] = {
    "model": ScreeningObject,
    "description": "Queued. Poll `Location`, no sooner than `Retry-After` says.",
    "headers": {
        "Location": {"schema": {"type": "string", "format": "uri"}},
        "Retry-After": {"schema": {"type": "integer"}},
        "Idempotency-Replayed": {
            "schema": {"type": "string", "const": "true"},
            "description": "Set where this is an earlier answer.",
        },
    },
}

FINISHED_RESPONSE: dict[str, Any] = {
    "model": ScreeningObject,
    "description": "The end, for `Prefer: wait=N`.",
    "headers": {"Preference-Applied": {"schema": {"type": "string"}}, **ACCEPTED_RESPONSE["headers"]},
}
FINISHED_RESPONSE["headers"].pop("Retry-After")

ERASED_RESPONSE: dict[str, Any] = {"description": "Erased; only an audit stub is kept."}


def file_response(*types: str) -> dict[int | str, dict[str, Any]]:
    """What a route answers that serves bytes."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        200: {"description": "The bytes.", "content": dict.fromkeys(types, binary)},
        304: {"description": "Unchanged: `If-None-Match` named the present ETag."},
        307: {"description": "A short-lived address that serves the bytes."},
    }
