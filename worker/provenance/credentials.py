"""What do a file's Content Credentials (C2PA) claim, and does their signature hold?

Manifests are untrusted bytes before a native parser, so a process of its own reads them, under limits, without network.
It is only started where a file has the marks of a manifest: most files cost nothing.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import structlog

from screening.errors import ConfigurationError
from worker.provenance import credentials_child

logger = structlog.get_logger(__name__)

SECONDS = 15.0
LARGEST_REPORT = 1 << 20
ABSENT: dict[str, Any] = {"state": "absent", "generator": None, "claims": []}
UNREADABLE: dict[str, Any] = {"state": "unreadable", "generator": None, "claims": []}
MEDIA_TYPES = {
    "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "avif": "image/avif", "gif": "image/gif",
    "tiff": "image/tiff",
}  # fmt: skip


def trust_anchors(path: Path | None) -> Path | None:
    """The operator's list of authorities, checked once. Raises ConfigurationError for what holds no certificate."""
    if path is None:
        return None
    try:
        found = "-----BEGIN CERTIFICATE-----" in path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"ASSAY_C2PA_TRUST_ANCHORS names {path}, which cannot be read: {error}") from error
    if not found:
        raise ConfigurationError(f"ASSAY_C2PA_TRUST_ANCHORS names {path}, which holds no PEM certificate.")
    return path.resolve()


def read(data: bytes, format: str, anchors: Path | None = None) -> dict[str, Any]:
    """`{"state", "generator", "claims"}`; no manifest is `absent`, from which nothing follows.

    `valid` takes a signer under one of `anchors`; without them an intact signature is `untrusted`.
    """
    media_type = MEDIA_TYPES.get(format)
    if media_type is None or b"jumb" not in data or b"c2pa" not in data:
        return ABSENT
    command = [sys.executable, "-P", "-m", credentials_child.__name__, media_type]
    command += [] if anchors is None else [str(anchors)]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=SECONDS, check=True)  # noqa: S603
        report: dict[str, Any] = json.loads(done.stdout[:LARGEST_REPORT])
    except (subprocess.SubprocessError, ValueError) as error:
        logger.info("provenance.unreadable", error=type(error).__name__)
        return UNREADABLE
    return report
