"""What is stored of a screening that has succeeded? The finding, with what its policy and its own file say about it.

`jobs.complete_all` calls this in the transaction that ends the screenings, for a whole batch at once: each table is
written by one statement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from screening import inserting, policies, reviews
from screening.rules import Facts
from screening.tables import Finding, Provenance, Submission

if TYPE_CHECKING:
    from screening.jobs import Claim

# All that is known when a finding is stored; the rest is the database's.
COLUMNS = tuple(column.key for column in Finding.__table__.columns if column.key != "created_at")

DESCRIBE = """
UPDATE images i
   SET format = r.format, width = r.width, height = r.height, frames = r.frames,
       orientation_applied = r.orientation_applied, pdq_hash = r.pdq_hash, pdq_quality = r.pdq_quality,
       pdq_dihedral = r.pdq_dihedral
  FROM jsonb_populate_recordset(NULL::images, CAST(:rows AS jsonb)) r
 WHERE i.screening_id = r.screening_id
"""


@dataclass(frozen=True, slots=True)
class Completion:
    """What one attempt has found. `image`: the columns that only decoding could tell; `provenance`: its report's."""

    claim: "Claim"
    finding: Finding
    image: Mapping[str, Any] | None = None
    provenance: Mapping[str, Any] | None = None


def store(session: Session, completions: Sequence[Completion]) -> None:
    """Write findings, judged by their platforms' policies, what their files are and say, and the reviews asked for."""
    if not completions:
        return
    _describe(session, completions)
    judged = _facts(session, completions)
    rulings = policies.apply(session, judged)
    inserting.insert(session, Finding, [_row(done) for done in completions])
    reviews.open_for(session, [(finding, ruling) for (finding, _), ruling in zip(judged, rulings, strict=True)])


def _describe(session: Session, completions: Sequence[Completion]) -> None:
    images = [{"screening_id": done.claim.screening_id, **done.image} for done in completions if done.image]
    if images:
        session.execute(text(DESCRIBE), {"rows": inserting.as_json(images)})
    inserting.insert(
        session,
        Provenance,
        [
            {"screening_id": done.claim.screening_id, "platform_id": done.claim.platform_id, **done.provenance}
            for done in completions
            if done.provenance
        ],
    )


def _facts(session: Session, completions: Sequence[Completion]) -> list[tuple[Finding, Facts]]:
    """Each finding as rules see it, with what its platform said about the image."""
    ids = [done.claim.screening_id for done in completions]
    statement = select(Submission.screening_id, Submission.details).where(Submission.screening_id.in_(ids))
    details = {row.screening_id: row.details for row in session.execute(statement)}
    return [
        (done.finding, policies.facts(done.finding, priority=done.claim.priority, metadata=details[id]))
        for id, done in zip(ids, completions, strict=True)
    ]


def _row(done: Completion) -> dict[str, Any]:
    finding = done.finding
    finding.accepted_at, finding.provenance_conflict = done.claim.created_at, bool(finding.provenance_conflict)
    return {name: getattr(finding, name) for name in COLUMNS}
