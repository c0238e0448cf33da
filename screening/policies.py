"""Which policy does a platform go by, and what does it make of a finding that is just being recorded?

Nothing about policies is cached beyond the documents themselves, which never change: a finding's own transaction reads
which version stands and whether the kill switch is engaged, so that both act at once everywhere.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import select, text, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from screening import audit, inserting, rules
from screening.errors import AssayError
from screening.ids import Prefix, encode
from screening.rules import DEFAULT, Document, Facts, Ruling
from screening.tables import Finding, KillSwitch, Policy, ShadowRuling, Standing, assay_now

EVERY_PLATFORM = UUID(int=0)
BUILT_IN = 0  # the version number of DEFAULT, which no platform has written

STANDING = text("""
SELECT p.id, coalesce(s.version, 0) AS version, s.shadow_version,
       EXISTS (SELECT FROM kill_switches k WHERE k.id IN (p.id, :every) AND k.engaged) AS blocks_suspended
  FROM unnest(CAST(:platforms AS uuid[])) AS p (id) LEFT JOIN standings s ON s.platform_id = p.id
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
    return standings(session, {platform_id})[platform_id]


def standings(session: Session, platform_ids: Iterable[UUID]) -> dict[UUID, Stand]:
    """The same of several platforms, by their ids."""
    rows = session.execute(STANDING, {"platforms": list(platform_ids), "every": EVERY_PLATFORM})
    return {row.id: Stand(row.version, row.shadow_version, row.blocks_suspended) for row in rows}


# Bounded: a worker sees few versions of few platforms, and a document is some kilobytes.
@lru_cache(maxsize=1024)
def _parsed(platform_id: UUID, version: int, content: str) -> Document:
    return Document.model_validate_json(content)


def document(session: Session, platform_id: UUID, version: int) -> Document:
    """One version's document. Raises UnknownPolicyError."""
    return documents(session, {(platform_id, version)})[platform_id, version]


def documents(session: Session, wanted: Iterable[tuple[UUID, int]]) -> dict[tuple[UUID, int], Document]:
    """The documents of versions, by platform and version. Raises UnknownPolicyError."""
    found = {(platform_id, version): DEFAULT for platform_id, version in wanted if version == BUILT_IN}
    if written := set(wanted) - set(found):
        statement = select(Policy).where(tuple_(Policy.platform_id, Policy.version).in_(written))
        for row in session.scalars(statement):
            key = row.platform_id, row.version
            found[key] = _parsed(*key, audit.canonical(row.document))
    for _, version in written - set(found):
        raise UnknownPolicyError(f"There is no policy version {version}.")
    return found


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


def apply(session: Session, findings: Sequence[tuple[Finding, Facts]]) -> list[Ruling]:
    """Judge findings that are about to be stored: fills their policy columns, stores the shadow's rulings beside them.

    Rulings come in the same order.
    """
    stands = standings(session, {finding.platform_id for finding, _ in findings})
    judging = documents(session, {(platform_id, now.version) for platform_id, now in stands.items()})
    rulings = []
    for finding, asked in findings:
        now = stands[finding.platform_id]
        document = judging[finding.platform_id, now.version]
        ruling = rules.judge(document, now.version, asked, blocks_suspended=now.blocks_suspended)
        finding.policy_version, finding.outcome = now.version, ruling.outcome.value
        finding.rule, finding.guard = ruling.rule, _named(ruling)
        rulings.append(ruling)
    _watch(session, stands, findings)
    return rulings


def _named(ruling: Ruling) -> str | None:
    return None if ruling.guard is None else ruling.guard.value


def _watch(session: Session, stands: dict[UUID, Stand], findings: Sequence[tuple[Finding, Facts]]) -> None:
    """Store what the versions that only watch would have done."""
    watched = {id: now.shadow_version for id, now in stands.items() if now.shadow_version is not None}
    watching = documents(session, set(watched.items()))
    rows = []
    for finding, asked in findings:
        if (version := watched.get(finding.platform_id)) is not None:
            ruling = rules.judge(watching[finding.platform_id, version], version, asked, blocks_suspended=False)
            rows.append(
                {
                    "screening_id": finding.screening_id, "version": version, "platform_id": finding.platform_id,
                    "outcome": ruling.outcome.value, "rule": ruling.rule, "guard": _named(ruling),
                }
            )  # fmt: skip
    inserting.insert(session, ShadowRuling, rows)


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
