"""What would another policy have made of what was already found? Reads, judges, emits nothing."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from screening import rules
from screening.rules import Document, Facts, Outcome, Ruling

MOST = 10_000  # findings a backtest reads at most; the newest are taken
EXAMPLES = 100

# By (created_at, id) from the newest: the index ends the read at the limit, however much there is.
FINDINGS = text("""
SELECT f.screening_id, f.label, f.score, f.probability, f.area_fraction, f.extent, f.mask_verdict_conflict,
       s.priority, f.outcome, f.rule, f.provenance_conflict, b.metadata
  FROM screenings s
  JOIN findings f ON f.screening_id = s.id
  JOIN submissions b ON b.screening_id = s.id
 WHERE s.platform_id = :platform AND s.erased_at IS NULL
   AND (CAST(:after AS timestamptz) IS NULL OR s.created_at >= :after)
   AND (CAST(:before AS timestamptz) IS NULL OR s.created_at < :before)
 ORDER BY s.created_at DESC, s.id DESC
 LIMIT :limit
""")


@dataclass(frozen=True, slots=True)
class Flip:
    """One finding that the tested policy would have treated otherwise."""

    screening_id: UUID
    was: str
    becomes: str
    rule: str


@dataclass(slots=True)
class Backtest:
    """Counts of outcomes now and under the tested policy, and of each flip, with examples."""

    judged: int = 0
    truncated: bool = False
    was: Counter[str] = field(default_factory=Counter)
    becomes: Counter[str] = field(default_factory=Counter)
    flips: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_rule: Counter[str] = field(default_factory=Counter)
    examples: list[Flip] = field(default_factory=list)

    def count(self, row: RowMapping, ruling: Ruling) -> None:
        """Take one finding's two outcomes into the counts."""
        was, becomes = row["outcome"] or Outcome.ALLOW.value, ruling.outcome.value
        self.judged += 1
        self.was[was] += 1
        self.becomes[becomes] += 1
        self.by_rule[ruling.rule] += 1
        if was != becomes:
            self.flips[was, becomes] += 1
            if len(self.examples) < EXAMPLES:
                self.examples.append(Flip(row["screening_id"], was, becomes, ruling.rule))


def run(
    session: Session,
    platform_id: UUID,
    tested: Document,
    *,
    version: int,
    limit: int = 1_000,
    after: datetime | None = None,
    before: datetime | None = None,
) -> Backtest:
    """Judge the newest findings of a window again. `version` seeds the sample, as it would if it were stored."""
    limit = min(limit, MOST)
    result = Backtest()
    for number, row in enumerate(_rows(session, platform_id, limit + 1, after, before)):
        if number == limit:
            result.truncated = True
            break
        result.count(row, rules.judge(tested, version, _facts(row), blocks_suspended=False))
    return result


def _rows(
    session: Session, platform_id: UUID, limit: int, after: datetime | None, before: datetime | None
) -> Iterator[RowMapping]:
    bounds = {"platform": platform_id, "limit": limit, "after": after, "before": before}
    return iter(session.execute(FINDINGS, bounds).mappings())


def _facts(row: RowMapping) -> Facts:
    names = (
        "screening_id", "label", "score", "probability", "area_fraction", "extent", "mask_verdict_conflict",
        "priority", "provenance_conflict", "metadata",
    )  # fmt: skip
    return Facts(**{name: row[name] for name in names})
