"""What does a screening look like outside? The one JSON object of the API, of `Prefer: wait` and of webhooks."""

from datetime import UTC, datetime
from typing import Any

from screening import blobs
from screening.ids import Prefix, encode
from screening.settings import Settings
from screening.tables import Finding, Image, Review, ReviewState, Screening, State


def timestamp(value: datetime | None) -> str | None:
    """RFC 3339 in UTC with milliseconds, or None."""
    if value is None:
        return None
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def screening(row: Screening, settings: Settings) -> dict[str, Any]:
    """The screening object; needs `submission`, `image` and `finding` loaded."""
    finding = row.finding
    return {
        "id": encode(Prefix.SCREENING, row.id),
        "object": "screening",
        "state": row.state,
        "client_ref": row.client_ref,
        "metadata": row.submission.details,
        "priority": row.priority,
        "attempt": row.attempt,
        "image": None if row.image is None else image(row.image),
        "verdict": None if finding is None else verdict(finding),
        "localization": None if finding is None else localization(row, finding, settings),
        "policy": None if finding is None or finding.policy_version is None else policy(finding),
        "review": None if finding is None or row.review is None else review(row.review),
        "error": error(row),
        "versions": None if finding is None else versions(finding),
        "timing_ms": timing(row),
        "created_at": timestamp(row.created_at),
        "finished_at": timestamp(row.finished_at),
        "links": links(row, settings),
    }


def image(row: Image) -> dict[str, Any]:
    """The stored bytes: what they are, not where."""
    pdq = None if row.pdq_hash is None else {"hash": row.pdq_hash.hex(), "quality": row.pdq_quality}
    return {
        "id": encode(Prefix.IMAGE, row.id),
        "sha256": row.sha256.hex(),
        "bytes": row.size,
        "format": row.format,
        "width": row.width,
        "height": row.height,
        "frames": row.frames,
        "orientation_applied": row.orientation_applied,
        "pdq": pdq,
    }


def verdict(finding: Finding) -> dict[str, Any]:
    """The score is the model's S_tamper, the probability its calibrated reading; neither is an area."""
    return {
        "label": finding.label,
        "score": round(finding.score, 6),
        "probability": None if finding.probability is None else round(finding.probability, 6),
        "calibration_id": finding.calibration_id,
        "reasons": finding.reasons,
    }


def localization(row: Screening, finding: Finding, settings: Settings) -> dict[str, Any]:
    """Where: mask and heat map by durable URI, and the connected regions."""
    size = {} if row.image is None else {"width": row.image.width, "height": row.image.height}
    mask = {"uri": blobs.uri(settings.blob_url, finding.mask_key), "sha256": finding.mask_sha256.hex(), **size}
    heatmap = {"uri": blobs.uri(settings.blob_url, finding.heatmap_key), "sha256": finding.heatmap_sha256.hex()}
    return {
        "area_fraction": round(finding.area_fraction, 6),
        "extent": finding.extent,
        "mask_verdict_conflict": finding.mask_verdict_conflict,
        "mask": mask,
        "heatmap": heatmap,
        "regions": finding.regions,
    }


def policy(finding: Finding) -> dict[str, Any]:
    """What the platform's policy made of the finding, and by which version."""
    return {
        "version": finding.policy_version,
        "outcome": finding.outcome,
        "rule": finding.rule,
        "guard": finding.guard,
    }


def review(row: Review) -> dict[str, Any]:
    """Whether people have decided. The undo window and a second stage are nobody's business outside."""
    state = ReviewState.CLAIMED if row.state == ReviewState.SETTLING else row.state
    return {"id": encode(Prefix.REVIEW, row.id), "state": state}


def error(row: Screening) -> dict[str, Any] | None:
    """Why it failed, or None."""
    if row.state != State.FAILED:
        return None
    return {"code": row.error_code, "detail": row.error_detail, "retryable": row.error_retryable}


def versions(finding: Finding) -> dict[str, Any]:
    """What exactly said so."""
    return {
        "model": finding.model,
        "weights_sha256": finding.weights_sha256,
        "preprocess": finding.preprocess,
        "service": finding.service,
        "reused_from": None if finding.reused_from is None else encode(Prefix.SCREENING, finding.reused_from),
    }


def timing(row: Screening) -> dict[str, Any] | None:
    """Milliseconds spent waiting, decoding and inferring, and from acceptance to the end."""
    if row.finished_at is None or row.started_at is None or row.finding is None:
        return None
    return {
        "queued": _milliseconds(row.created_at, row.started_at),
        "decode": row.finding.decode_ms,
        "inference": row.finding.inference_ms,
        "total": _milliseconds(row.created_at, row.finished_at),
    }


def _milliseconds(start: datetime, end: datetime) -> int:
    return max(0, round((end - start).total_seconds() * 1000))


def links(row: Screening, settings: Settings) -> dict[str, Any]:
    """Addresses that serve the bytes to whoever may see them; null until there is something to serve."""
    base = f"{settings.public_url}/v1/screenings/{encode(Prefix.SCREENING, row.id)}"
    found = row.finding is not None
    return {
        "self": base,
        "image": f"{base}/image" if row.image is not None else None,
        "mask": f"{base}/mask" if found else None,
        "heatmap": f"{base}/heatmap" if found else None,
        "overlay": f"{base}/overlay" if found else None,
    }
