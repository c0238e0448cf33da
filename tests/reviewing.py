"""What does a test of reviews need? Actors with roles, and images that wait before people."""

import hashlib
from datetime import timedelta
from io import BytesIO
from typing import Any
from uuid import UUID

from PIL import Image as PillowImage
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from screening import decisions, exposure, jobs, policies, reviews
from screening.actors import Actor, Grant, Role
from screening.blobs import open_store
from screening.decisions import Choice
from screening.ids import uuid7
from screening.rules import Document
from screening.tables import Finding, Image, Platform, Review
from tests.findings import finding, intake

Sessions = sessionmaker[Session]
EVERYTHING_REVIEWED: dict[str, Any] = {
    "rules": [],
    "otherwise": "review",
    "golden_share": 0,
    "sample": {"share": 0},
    "check_blocks": {"share": 0},
}


def actor(*platforms: Platform, role: Role = Role.REVIEWER) -> Actor:
    """Somebody with one role on some platforms."""
    return Actor(uuid7(), {p.id: Grant(role, f"rvr_{uuid7().hex}") for p in platforms})


def policy(sessions: Sessions, platform: Platform, content: dict[str, Any] | None = None) -> int:
    """Put a policy, by default one that sends everything to people and mixes nothing in."""
    made = Document.model_validate({**EVERYTHING_REVIEWED, **(content or {})})
    with sessions.begin() as session:
        standing = policies.standing(session, platform.id).version
        return policies.put(session, platform.id, made, expected_version=standing, actor="operator")


def screened(sessions: Sessions, platform: Platform, offset: str = "0", **values: Any) -> UUID:
    """The review of one screened image; `values` are its finding's."""
    with sessions.begin() as session:
        session.execute(text("SELECT set_config('assay.clock_offset', :offset, true)"), {"offset": offset})
        screening_id = jobs.enqueue(session, intake(platform.id)).id
        [held] = jobs.claim(session, limit=1, worker="w1", lease=timedelta(seconds=60))
        assert held.screening_id == screening_id
        assert jobs.complete(session, held, finding(held, **values))
        return session.scalars(select(Review.id).where(Review.screening_id == screening_id)).one()


def decide(sessions: Sessions, who: Actor, review_id: UUID, choice: Choice, exposed: float | None = None) -> None:
    """Claim this review and decide it, past the undo window; `exposed` are the seconds that its image was unveiled."""
    with sessions.begin() as session:
        review = reviews.claim_this(session, who, review_id)
        if exposed is not None:
            exposure.add(session, who, review_id, exposed)
        decisions.decide(session, who, review_id, reviews.token(review), choice)
    settle(sessions)


def settle(sessions: Sessions) -> None:
    """Let the undo window of every decision pass."""
    with sessions.begin() as session:
        session.execute(text("SET LOCAL assay.clock_offset = '1 minute'"))
        decisions.tend(session)


def with_files(sessions: Sessions, blob_url: str, review_id: UUID, image: bytes, format: str = "jpeg") -> None:
    """Put an image, and a mask and a heat map of its size, where a review's finding says they are.

    The left half of the mask is marked.
    """
    store = open_store(blob_url)
    with PillowImage.open(BytesIO(image)) as opened:
        width, height = opened.size
    mask = PillowImage.new("L", (width, height), 0)
    mask.paste(255, (0, 0, width // 2, height))
    with sessions.begin() as session:
        screening_id = session.get_one(Review, review_id).screening_id
        row = session.scalars(select(Image).where(Image.screening_id == screening_id)).one()
        row.width, row.height, row.format, row.size = width, height, format, len(image)
        finding = session.get_one(Finding, screening_id)
        row.sha256 = hashlib.sha256(image).digest()
        finding.mask_sha256 = finding.heatmap_sha256 = hashlib.sha256(png(mask)).digest()
        for key in (finding.mask_key, finding.heatmap_key):
            store.put(key, png(mask))
        store.put(row.blob_key, image)


def png(image: PillowImage.Image) -> bytes:
    """An image as PNG."""
    target = BytesIO()
    image.save(target, "PNG")
    return target.getvalue()
