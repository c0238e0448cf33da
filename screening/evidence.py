"""How can a decision be defended elsewhere, years later? With a zip that can be checked without us.

It holds the original, mask, heat map and corrections, what exactly judged, who decided what and when, the provenance
report, and `manifest.json` with the SHA-256 of each file. The manifest's own hash goes into the audit chain when the
pack is made; each audit entry in it proves itself by its hash.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from screening import audit, case, document, reviews, timeline
from screening.actors import Actor, Role
from screening.blobs import BlobStore
from screening.decisions import NotDecidedError
from screening.document import timestamp
from screening.ids import Prefix, encode
from screening.settings import settings
from screening.tables import AuditEntry, Correction, Finding, Provenance, Review, ReviewState, Screening, assay_now

MANIFEST = "manifest.json"
FORMAT = "assay-evidence-1"
CHUNK = 1 << 20
MOST_BYTES = 2**31  # of one member; what claims more is no pack of ours
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same evidence gives the same bytes


@dataclass(frozen=True, slots=True)
class Evidence:
    """What goes into a pack: documents by name, and blob keys by name with the SHA-256 that each must have."""

    documents: dict[str, bytes]
    blobs: dict[str, tuple[str, str]]

    def manifest(self) -> bytes:
        """Every member with its SHA-256."""
        files = {name: hashlib.sha256(content).hexdigest() for name, content in self.documents.items()}
        files |= {name: sha256 for name, (_, sha256) in self.blobs.items()}
        return _json({"format": FORMAT, "files": dict(sorted(files.items()))})


def collect(session: Session, actor: Actor, review_id: UUID) -> Evidence:
    """Everything about a decided review, for a lead. Raises NotDecidedError; the making is itself recorded."""
    review = reviews.visible(session, actor, review_id, Role.LEAD)
    if review.state != ReviewState.DECIDED:
        raise NotDecidedError("Evidence is packed once the review is decided.")
    screening = _screening(session, review)
    evidence = Evidence(_documents(session, actor, review, screening), _blobs(session, screening))
    audit.append(
        session,
        actor=actor.grants[review.platform_id].alias,
        action="evidence.packed",
        subject=encode(Prefix.REVIEW, review.id),
        platform_id=review.platform_id,
        details={"manifest_sha256": hashlib.sha256(evidence.manifest()).hexdigest()},
    )
    return evidence


def _screening(session: Session, review: Review) -> Screening:
    loaded = (Screening.submission, Screening.image, Screening.finding)
    return session.scalars(
        select(Screening).where(Screening.id == review.screening_id).options(*(selectinload(r) for r in loaded))
    ).one()


def _documents(session: Session, actor: Actor, review: Review, screening: Screening) -> dict[str, bytes]:
    provenance = session.get(Provenance, review.screening_id)
    decided = {
        "review": encode(Prefix.REVIEW, review.id),
        "packed_at": timestamp(session.scalars(select(assay_now())).one()),
        "decisions": case.shown_decisions(session, review, actor),
    }
    return {
        "screening.json": _json(document.screening(screening, settings())),
        "decisions.json": _json(decided),
        "audit.json": _json(_trail(session, review)),
        "timeline.json": _json(timeline.timeline(session, actor, screening.platform_id, screening.id)),
        "provenance.json": _json(None if provenance is None else {"c2pa": provenance.c2pa, "exif": provenance.exif}),
    }


def _trail(session: Session, review: Review) -> list[dict[str, Any]]:
    subject = encode(Prefix.REVIEW, review.id)
    rows = session.scalars(select(AuditEntry).where(AuditEntry.subject == subject).order_by(AuditEntry.sequence))
    return [audit.to_json(row) for row in rows]


def _blobs(session: Session, screening: Screening) -> dict[str, tuple[str, str]]:
    finding = screening.finding or session.get_one(Finding, screening.id)
    named = {
        "mask.png": (finding.mask_key, finding.mask_sha256.hex()),
        "heatmap.png": (finding.heatmap_key, finding.heatmap_sha256.hex()),
    }
    if screening.image is not None:
        named[f"image.{screening.image.format}"] = (screening.image.blob_key, screening.image.sha256.hex())
    corrections = select(Correction).where(Correction.screening_id == screening.id).order_by(Correction.version)
    for row in session.scalars(corrections):
        named[f"correction-{row.version}.png"] = (row.blob_key, row.sha256.hex())
    return named


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=str).encode()


def pack(evidence: Evidence, store: BlobStore, target: BinaryIO) -> None:
    """Write the zip. Raises BlobNotFoundError where a file has been erased meanwhile."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {MANIFEST: evidence.manifest(), **evidence.documents}.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content)
        for name, (key, _) in evidence.blobs.items():
            with archive.open(zipfile.ZipInfo(name, EPOCH), "w") as member:
                member.writelines(store.stream(key, CHUNK))


def verify(path: Path) -> list[str]:
    """What is wrong with a pack, one sentence each; nothing where it is whole. Needs no database and no network."""
    try:
        with zipfile.ZipFile(path) as archive:
            return list(_flaws(archive))
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        return [f"This is no readable zip file: {error}."]


def _flaws(archive: zipfile.ZipFile) -> Iterator[str]:
    names = archive.namelist()
    manifest = _manifest(archive) if MANIFEST in names else None
    if manifest is None:
        yield f"There is no usable {MANIFEST}."
        return
    for name, expected in manifest.items():
        if name not in names:
            yield f"{name} is missing."
        elif (found := _sha256(archive, name)) != expected:
            yield f"{name} has been altered: its SHA-256 is {found}, the manifest says {expected}."
    yield from (f"{name} is not in the manifest." for name in names if name not in manifest and name != MANIFEST)
    yield from (f"{name} is there twice." for name in sorted(set(names)) if names.count(name) > 1)
    yield from _inner_flaws(archive, manifest)


def _manifest(archive: zipfile.ZipFile) -> dict[str, str] | None:
    try:
        content = json.loads(archive.read(MANIFEST))
    except (ValueError, RuntimeError, zipfile.BadZipFile):
        return None
    files = content.get("files") if isinstance(content, dict) and content.get("format") == FORMAT else None
    return files if isinstance(files, dict) and "screening.json" in files and "audit.json" in files else None


def _sha256(archive: zipfile.ZipFile, name: str) -> str:
    if archive.getinfo(name).file_size > MOST_BYTES:
        return "of too large a file"
    digest = hashlib.sha256()
    try:
        with archive.open(name) as member:
            while chunk := member.read(CHUNK):
                digest.update(chunk)
    except (zipfile.BadZipFile, RuntimeError, EOFError) as error:
        return f"unreadable ({error})"
    return digest.hexdigest()


def _inner_flaws(archive: zipfile.ZipFile, manifest: dict[str, str]) -> Iterator[str]:
    """The documents must speak of these very files, and each audit entry must prove itself."""
    try:
        screening = json.loads(archive.read("screening.json"))
        entries = json.loads(archive.read("audit.json"))
        image, where = screening["image"], screening["localization"]
        claimed = {
            f"image.{image['format']}": image["sha256"],
            "mask.png": where["mask"]["sha256"],
            "heatmap.png": where["heatmap"]["sha256"],
        }
        broken = [entry["sequence"] for entry in entries if not audit.proves_itself(entry)]
    except (ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile):
        yield "The documents cannot be read."
        return
    yield from (f"screening.json speaks of another {n}." for n, sha in claimed.items() if manifest.get(n) != sha)
    yield from (f"Audit entry {sequence} does not match its hash." for sequence in broken)
