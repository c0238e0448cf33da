"""What was done on a platform, as its leads may read it, newest first?

Entries come without their hashes, from which the few possible contents of a hidden one could be told.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from screening.document import timestamp
from screening.ids import Prefix, decode
from screening.tables import AuditEntry, Review, ReviewState

# A kind may be rare: no further back than this does a search read, so that it costs the same at any length.
REACH = 50_000
KINDS = ("decision", "evidence", "endpoint", "golden", "key", "platform", "policy", "provenance", "review", "reviewer",
         "screening")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are asked for: `kind` stands before an action's dot, `before` is a sequence already seen."""

    platform_id: UUID
    subject: str | None = None
    kind: str | None = None
    before: int | None = None
    limit: int = 50


def entries(session: Session, wanted: Wanted) -> list[dict[str, Any]]:
    """A page of the trail. Of an undecided review only that something happened."""
    statement = select(AuditEntry).where(AuditEntry.platform_id == wanted.platform_id)
    if wanted.subject is not None:
        statement = statement.where(AuditEntry.subject == wanted.subject)
    if wanted.before is not None:
        statement = statement.where(AuditEntry.sequence < wanted.before)
    newest = statement.order_by(AuditEntry.sequence.desc())
    if wanted.kind is not None:
        entry = aliased(AuditEntry, newest.limit(REACH).subquery())
        newest = select(entry).where(entry.action.startswith(f"{wanted.kind}.")).order_by(entry.sequence.desc())
    rows = session.scalars(newest.limit(wanted.limit)).all()
    states = _states(session, rows)
    return [_shown(row, states.get(row.subject)) for row in rows]


def _states(session: Session, rows: Sequence[AuditEntry]) -> dict[str, str]:
    """The states of the reviews among the subjects."""
    ids = {row.subject: decode(Prefix.REVIEW, row.subject) for row in rows}
    wanted = [i for i in ids.values() if i is not None]
    rows_found = session.execute(select(Review.id, Review.state).where(Review.id.in_(wanted)))
    found = {row.id: row.state for row in rows_found}
    return {subject: found[i] for subject, i in ids.items() if i is not None and i in found}


def _shown(row: AuditEntry, state: str | None) -> dict[str, Any]:
    """What was decided first is nobody's to read while a second decision is due."""
    hidden = decode(Prefix.REVIEW, row.subject) is not None and state != ReviewState.DECIDED
    return {
        "sequence": row.sequence,
        "at": timestamp(row.at),
        "actor": None if hidden else row.actor,
        "action": row.action,
        "subject": row.subject,
        "details": None if hidden else json.loads(row.details),
    }
