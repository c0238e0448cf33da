"""How does an exact duplicate get its finding without the detector?

The earlier finding is copied, files included, under keys of its own: erasing one of the two erases one of the two. The
copy names the screening it came from. Only a platform's own earlier findings are ever looked at.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog

from screening import duplicates
from screening.blobs import BlobStore
from screening.duplicates import Earlier
from screening.errors import BlobNotFoundError, BlobStoreError
from screening.jobs import Claim
from worker import metrics
from worker.ledger import Ledger
from worker.recording import Result

logger = structlog.get_logger(__name__)

COPIED = (
    "label", "score", "probability", "calibration_id", "reasons", "area_fraction", "extent", "mask_verdict_conflict",
    "regions", "model", "weights_sha256", "preprocess", "service", "provenance_conflict",
)  # fmt: skip
PROVENANCE = ("c2pa", "exif", "gps", "jpeg", "thumbnail", "conflicts")
IMAGE = ("format", "width", "height", "frames", "orientation_applied", "pdq_hash", "pdq_quality", "pdq_dihedral")


class Reuse:
    """Finds earlier findings of the same bytes; thread-safe."""

    def __init__(self, ledger: Ledger, store: BlobStore, versions: dict[str, str]) -> None:
        self._ledger = ledger
        self._store = store
        self._key = {name: versions[name] for name in ("weights_sha256", "preprocess")}

    def find(self, claims: Sequence[Claim]) -> dict[UUID, Earlier]:
        """What was found earlier, by the id of the claimed screening."""
        return self._ledger.write(lambda session: duplicates.find(session, claims, **self._key))

    def copy(self, claim: Claim, earlier: Earlier) -> Result | None:
        """An earlier finding for this claim, still to be stored. None where its files are gone or cannot be read."""
        source = earlier.finding
        try:
            with metrics.stage("reuse"):
                files = {"mask": self._store.get(source.mask_key), "heatmap": self._store.get(source.heatmap_key)}
        except (BlobNotFoundError, BlobStoreError) as error:
            logger.info("reuse.unreadable", error=type(error).__name__)
            return None
        finding: dict[str, Any] = {name: getattr(source, name) for name in COPIED}
        finding |= {"decode_ms": 0, "inference_ms": 0, "reused_from": source.reused_from or source.screening_id}
        image = {name: getattr(earlier.image, name) for name in IMAGE}
        said = earlier.provenance
        provenance = None if said is None else {name: getattr(said, name) for name in PROVENANCE}
        return Result(claim, finding, files, image, provenance)
