"""Does what a file says of itself agree with what the detector found? Where not, no machine decides alone."""

from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from screening import audit, reviews
from screening.actors import Actor, NotGrantedError
from screening.ids import Prefix, encode
from screening.tables import Provenance

CAPTURED = frozenset({"digitalCapture", "computationalCapture"})
GENERATED = frozenset({"trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"})
# An intact signature of somebody unknown counts as well: to a conflict it only ever adds a person's look.
INTACT = frozenset({"valid", "untrusted"})

TEXTS = {
    "signed_capture_but_high_score": "Signed as captured by a camera, and yet the detector finds it manipulated.",
    "signed_generated_but_low_score": "Signed as generated or composed by a model, and yet the detector finds nothing.",
    "thumbnail_mismatch": "The thumbnail inside the file shows another picture.",
}
# These block what a machine would do alone; a thumbnail is a hint, and careless software forgets it.
BLOCKING = frozenset({"signed_capture_but_high_score", "signed_generated_but_low_score"})


def conflicts(report: dict[str, Any], label: str) -> list[str]:
    """Codes of what contradicts the verdict. Without a manifest there is nothing to contradict it."""
    c2pa, thumbnail = report["c2pa"], report["thumbnail"]
    sources = set(c2pa.get("sources", [])) if c2pa["state"] in INTACT else set()
    found = []
    if sources & CAPTURED and not sources & GENERATED and label == "fake":
        found.append("signed_capture_but_high_score")
    if sources & GENERATED and label == "authentic":
        found.append("signed_generated_but_low_score")
    if thumbnail is not None and thumbnail["mismatch"]:
        found.append("thumbnail_mismatch")
    return found


def shown(row: Provenance | None) -> dict[str, Any] | None:
    """A report as the review page has it: without the position."""
    if row is None:
        return None
    return {
        "c2pa": row.c2pa,
        "exif": row.exif,
        "gps": None if row.gps is None else "hidden",
        "jpeg": row.jpeg,
        "thumbnail": row.thumbnail,
        "conflicts": [{"code": code, "text": TEXTS.get(code, code)} for code in row.conflicts],
    }


def position(session: Session, actor: Actor, review_id: UUID) -> dict[str, Any]:
    """Where the image was taken, for somebody who asks; that they asked is recorded. Raises NotGrantedError."""
    review = reviews.visible(session, actor, review_id)
    row = session.get(Provenance, review.screening_id)
    if row is None or row.gps is None:
        raise NotGrantedError("There is nothing here under this id.")
    audit.append(
        session,
        actor=actor.grants[review.platform_id].alias,
        action="provenance.position_shown",
        subject=encode(Prefix.REVIEW, review.id),
        platform_id=review.platform_id,
    )
    return row.gps
