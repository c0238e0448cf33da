"""Has this platform sent the very same bytes before, and what was found then?

Exact duplicates alone: same bytes, same weights and same preprocessing give the same finding, without the detector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from screening.jobs import Claim
from screening.tables import Finding, Image, Provenance, Screening


@dataclass(frozen=True, slots=True)
class Earlier:
    """A finding that may be copied, the image it is about, and what its file says of itself."""

    finding: Finding
    image: Image
    provenance: Provenance | None


def find(session: Session, claims: Sequence[Claim], *, weights_sha256: str, preprocess: str) -> dict[UUID, Earlier]:
    """The earliest usable finding for each claimed screening that has one, by the claimed screening's id."""
    wanted = {c.screening_id: (c.platform_id, c.sha256) for c in claims if c.sha256 is not None}
    if not wanted:
        return {}
    statement = (
        select(Finding, Image, Provenance)
        .join(Image, Image.screening_id == Finding.screening_id)
        .join(Screening, Screening.id == Finding.screening_id)
        .outerjoin(Provenance, Provenance.screening_id == Finding.screening_id)
        .where(
            tuple_(Image.platform_id, Image.sha256).in_(list(set(wanted.values()))),
            Finding.weights_sha256 == weights_sha256,
            Finding.preprocess == preprocess,
            Screening.erased_at.is_(None),
        )
        .order_by(Image.platform_id, Image.sha256, Finding.created_at)
        .distinct(Image.platform_id, Image.sha256)
        .execution_options(populate_existing=True)
    )
    found = session.execute(statement)
    earlier = {(image.platform_id, image.sha256): Earlier(finding, image, said) for finding, image, said in found}
    return {screening_id: earlier[key] for screening_id, key in wanted.items() if key in earlier}
