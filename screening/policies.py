"""Which policy does a platform go by, and what does it make of a finding that is just being recorded?

Nothing about policies is cached beyond the documents themselves, which never change: a finding's own transaction reads
which version stands and whether the kill switch is engaged, so that both act at once everywhere.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from screening import audit, rules
from screening.errors import AssayError
from screening.ids import Prefix, encode
from screening.rules import DEFAULT, Document, Facts, Ruling
from screening.tables import Finding, KillSwitch, Policy, ShadowRuling, Standing, assay_now

EVERY_PLATFORM = UUID(int=0)
BUILT_IN = 0  # the version number of DEFAULT, which no platform has written

STANDING = text("""
SELECT coalesce(s.version, 0) AS version, s.shadow_version,
       EXISTS (SELECT FROM kill_switches k WHERE k.id IN (:platform, :every) AND k.engaged) AS blocks_suspended
  FROM (SELECT :platform AS platform_id) p LEFT JOIN standings s USING (platform_id)
""")


class StalePolicyError(AssayError):
    """Somebody else has changed the policy since it was read; read it again."""


class UnknownPolicyError(AssayError):
    """The platform has no policy of this version."""


@dataclass(frozen=True, slots=True)
class Stand:
    """What a platform goes by at this moment."""

    version: int
    shadow_version: int | None
    blocks_suspended: bool


def standing(session: Session, platform_id: UUID) -> Stand:
    """The versions that judge and watch, and whether a kill switch (the platform's or the global one) is engaged."""
    row = session.execute(STANDING, {"platform": platform_id, "every": EVERY_PLATFORM}).one()
    return Stand(row.version, row.shadow_version, row.blocks_suspended)


# Bounded: a worker sees few versions of few platforms, and a document is some kilobytes.
@lru_cache(maxsize=1024)
def _parsed(platform_id: UUID, version: int, content: str) -> Document:
    return Document.model_validate_json(content)


def document(session: Session, platform_id: UUID, version: int) -> Document:
    """One version's document. Raises UnknownPolicyError."""
    if version == BUILT_IN:
        return DEFAULT
    row = session.get(Policy, (platform_id, version))
    if row is None:
        raise UnknownPolicyError(f"There is no policy version {version}.")
    return _parsed(platform_id, version, audit.canonical(row.document))


def versions(session: Session, platform_id: UUID, *, limit: int = 50) -> list[Policy]:
    """The newest versions, newest first."""
    statement = select(Policy).where(Policy.platform_id == platform_id).order_by(Policy.version.desc()).limit(limit)
    return list(session.scalars(statement))


def put(session: Session, platform_id: UUID, new: Document, *, expected_version: int, actor: str) -> int:
    """Store a version and let it judge from now on; StalePolicyError unless `expected_version` still judges."""
    row = _locked(session, platform_id)
    if row.version != expected_version:
        raise StalePolicyError(f"Policy version {row.version} stands, not {expected_version}: read it again.")
    row.version = _store(session, row, new, actor)
    _record(session, platform_id, "policy.put", actor, version=row.version)
    return row.version


def put_shadow(session: Session, platform_id: UUID, new: Document | None, *, actor: str) -> int | None:
    """Store a version that watches and acts on nothing, or end the watch with None."""
    row = _locked(session, platform_id)
    row.shadow_version = None if new is None else _store(session, row, new, actor)
    _record(session, platform_id, "policy.shadow", actor, version=row.shadow_version)
    return row.shadow_version


def _locked(session: Session, platform_id: UUID) -> Standing:
    session.execute(insert(Standing).values(platform_id=platform_id).on_conflict_do_nothing())
    statement = select(Standing).where(Standing.platform_id == platform_id).with_for_update()
    return session.scalars(statement.execution_options(populate_existing=True)).one()


def _store(session: Session, row: Standing, new: Document, actor: str) -> int:
    row.latest_version += 1
    session.add(
        Policy(
            platform_id=row.platform_id,
            version=row.latest_version,
            document=new.model_dump(mode="json"),
            actor=actor,
        )
    )
    session.flush()
    return row.latest_version


def _record(session: Session, platform_id: UUID, action: str, actor: str, **details: Any) -> None:
    subject = encode(Prefix.PLATFORM, platform_id)
    audit.append(session, actor=actor, action=action, subject=subject, platform_id=platform_id, details=details)


def switch_blocks(
    session: Session, platform_id: UUID = EVERY_PLATFORM, *, suspended: bool, actor: str, reason: str | None = None
) -> None:
    """Engage or release the kill switch of one platform, or of all. Findings recorded after the commit obey it."""
    values = {"engaged": suspended, "reason": reason, "actor": actor, "changed_at": assay_now()}
    statement = insert(KillSwitch).values(id=platform_id, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))
    _record(session, platform_id, "policy.kill_switch", actor, engaged=suspended)


def kill_switches(session: Session, platform_id: UUID) -> dict[UUID, KillSwitch]:
    """The switches that bear on a platform, by id; absent ones were never touched."""
    statement = select(KillSwitch).where(KillSwitch.id.in_([platform_id, EVERY_PLATFORM]))
    return {row.id: row for row in session.scalars(statement)}


def apply(session: Session, finding: Finding, *, priority: str, metadata: dict[str, Any]) -> Ruling:
    """Judge a finding that is about to be stored: fills its policy columns, stores the shadow's ruling beside it."""
    now = standing(session, finding.platform_id)
    asked = facts(finding, priority=priority, metadata=metadata)
    judging = document(session, finding.platform_id, now.version)
    ruling = rules.judge(judging, now.version, asked, blocks_suspended=now.blocks_suspended)
    finding.policy_version, finding.outcome = now.version, ruling.outcome.value
    finding.rule, finding.guard = ruling.rule, None if ruling.guard is None else ruling.guard.value
    if now.shadow_version is not None:
        watching = document(session, finding.platform_id, now.shadow_version)
        _keep(session, asked, finding.platform_id, now.shadow_version, watching)
    return ruling


def _keep(session: Session, asked: Facts, platform_id: UUID, version: int, watching: Document) -> None:
    ruling = rules.judge(watching, version, asked, blocks_suspended=False)
    session.add(
        ShadowRuling(
            screening_id=asked.screening_id,
            version=version,
            platform_id=platform_id,
            outcome=ruling.outcome.value,
            rule=ruling.rule,
            guard=None if ruling.guard is None else ruling.guard.value,
        )
    )


def facts(finding: Finding, *, priority: str, metadata: dict[str, Any]) -> Facts:
    """A finding as rules see it."""
    return Facts(
        screening_id=finding.screening_id,
        label=finding.label,
        score=finding.score,
        probability=finding.probability,
        area_fraction=finding.area_fraction,
        extent=finding.extent,
        mask_verdict_conflict=finding.mask_verdict_conflict,
        priority=priority,
        provenance_conflict=bool(finding.provenance_conflict),
        metadata=metadata,
    )
