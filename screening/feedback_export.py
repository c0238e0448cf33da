"""What have people established about images, that a detector can learn from?

The final decisions of reviewers, and where nobody reviewed, what the platform itself said the truth was. Golden items
are left out: they were known before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

PAGE = 500

# One row an image: the standing decision of its review, the newest correction, and the platform's newest word.
LEARNT = text("""
SELECT s.id AS screening_id, i.blob_key, i.sha256, i.format, i.width, i.height, coalesce(r.verdict, b.truth) AS truth,
       r.verdict IS NOT NULL AS reviewed, d.mask_feedback, c.blob_key AS correction_key, f.mask_key, f.score,
       f.weights_sha256, u.metadata ->> 'domain' AS domain
  FROM screenings s
  JOIN images i ON i.screening_id = s.id
  JOIN findings f ON f.screening_id = s.id
  JOIN submissions u ON u.screening_id = s.id
  LEFT JOIN reviews r ON r.screening_id = s.id AND r.state = 'decided' AND r.golden_truth IS NULL
  LEFT JOIN LATERAL (SELECT mask_feedback FROM decisions WHERE review_id = r.id AND settled_at IS NOT NULL
                      ORDER BY settled_at DESC, id DESC LIMIT 1) d ON true
  LEFT JOIN LATERAL (SELECT blob_key FROM corrections WHERE review_id = r.id ORDER BY version DESC LIMIT 1) c ON true
  LEFT JOIN LATERAL (SELECT truth FROM feedback WHERE screening_id = s.id
                      ORDER BY created_at DESC, id DESC LIMIT 1) b ON true
 WHERE s.platform_id = :platform AND s.erased_at IS NULL AND s.id > :after
   AND coalesce(r.verdict, nullif(b.truth, 'unknown')) IS NOT NULL
 ORDER BY s.id LIMIT :limit
""")


@dataclass(frozen=True, slots=True)
class Lesson:
    """One image with its truth. `mask_key` is a mask that a person drew or agreed with; None where there is none."""

    screening_id: UUID
    image_key: str
    sha256: str
    format: str
    width: int
    height: int
    truth: str
    reviewed: bool
    corrected: bool
    mask_key: str | None
    score: float
    weights_sha256: str
    domain: str | None


def lessons(session: Session, platform_id: UUID) -> Iterator[Lesson]:
    """Every lesson of a platform, by screening id."""
    after = UUID(int=0)
    while rows := session.execute(LEARNT, {"platform": platform_id, "after": after, "limit": PAGE}).all():
        for row in rows:
            agreed = row.mask_key if row.mask_feedback == "right" else None
            yield Lesson(
                row.screening_id, row.blob_key, row.sha256.hex(), row.format, row.width, row.height, row.truth,
                row.reviewed, row.correction_key is not None, row.correction_key or agreed, row.score,
                row.weights_sha256, row.domain,
            )  # fmt: skip
        after = rows[-1].screening_id
