"""What does a finding look like when a test needs one?"""

import hashlib
from uuid import UUID

from screening import blobs, jobs
from screening.ids import uuid7
from screening.tables import Finding, Image


def image(platform_id: UUID, screening_id: UUID, content: bytes = b"pixels") -> Image:
    """An image row whose bytes are `content`."""
    return Image(
        screening_id=screening_id, platform_id=platform_id, blob_key=blobs.image_key(platform_id, screening_id),
        sha256=hashlib.sha256(content).digest(), size=len(content), format="jpeg", width=640, height=480,
    )  # fmt: skip


def intake(platform_id: UUID, content: bytes = b"pixels", **values: object) -> jobs.Intake:
    """An intake of an uploaded image."""
    screening_id = uuid7()
    return jobs.Intake(
        platform_id=platform_id,
        screening_id=screening_id,
        image=image(platform_id, screening_id, content),
        **values,  # type: ignore[arg-type]
    )


def finding(claim: jobs.Claim, **values: object) -> Finding:
    """A finding of a claimed screening."""
    folder = blobs.screening_prefix(claim.platform_id, claim.screening_id)
    columns: dict[str, object] = {
        "screening_id": claim.screening_id, "platform_id": claim.platform_id, "attempt": claim.attempt,
        "label": "fake", "score": 0.9, "reasons": [], "area_fraction": 0.1, "extent": "local",
        "mask_verdict_conflict": False, "regions": [], "mask_key": f"{folder}mask.png", "mask_sha256": bytes(32),
        "heatmap_key": f"{folder}heatmap.png", "heatmap_sha256": bytes(32), "model": "tiny", "weights_sha256": "0" * 64,
        "preprocess": "1", "service": "0", "decode_ms": 1, "inference_ms": 1,
    }  # fmt: skip
    return Finding(**(columns | values))
