"""How does an image come before people?"""

from datetime import timedelta

from sqlalchemy.orm import Session

from screening.rules import Ruling
from screening.tables import Finding, Review, assay_now

# How much earlier than its due time a certain forgery stands in the queue. Risk is worth hours, not precedence for
# ever: an item with no risk at all is overtaken only by what is due within these hours after it.
RISK_HEAD_START = timedelta(hours=4)


def open_for(session: Session, finding: Finding, ruling: Ruling) -> Review | None:
    """Put a finding before people if its ruling asks for it."""
    if ruling.queue is None or ruling.due_seconds is None:
        return None
    likely = risk(finding)
    due_at = assay_now() + timedelta(seconds=ruling.due_seconds)
    review = Review(
        platform_id=finding.platform_id,
        screening_id=finding.screening_id,
        queue=ruling.queue,
        risk=likely,
        due_at=due_at,
        rank=due_at - likely * RISK_HEAD_START,
    )
    session.add(review)
    session.flush()
    return review


def risk(finding: Finding) -> float:
    """0..1: how likely the image is forged, raised where evidence contradicts itself."""
    likely = finding.score if finding.probability is None else finding.probability
    if finding.label == "inconclusive":
        likely = max(likely, 0.5)
    return min(1.0, likely + 0.15 * finding.mask_verdict_conflict + 0.3 * bool(finding.provenance_conflict))
