"""How does what the detector said become a stored finding, or an attempt end without one?

Mask and heat map are uploaded first, under keys of this very attempt, then one transaction writes the finding. A worker
that dies in between leaves two files that nothing names; one that lost its lease takes its files away again.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import structlog
from sqlalchemy.exc import DBAPIError

from screening import blobs, jobs, progress, provenance
from screening.blobs import BlobStore
from screening.errors import BlobStoreError, Failure, FailureCode
from screening.jobs import Claim
from screening.settings import Settings
from screening.tables import Finding
from worker import metrics, milestones
from worker.defakerone import DeFakerOne
from worker.defakerone.errors import DetectorError
from worker.defakerone.verdict import Detection, Inference
from worker.leases import Leases
from worker.ledger import Ledger
from worker.milestones import Milestone
from worker.outcomes import Failed, Released
from worker.png import encode_heatmap, encode_mask
from worker.preparation import Ready
from worker.service import VERSION
from worker.telling import Telling
from worker.twins import Twins

logger = structlog.get_logger(__name__)

LONGEST_WAIT = 300.0  # seconds
SLOWLY = 30
PNG = "image/png"

PARTED = Released("duplicate", backoff=False)  # waited for an equal image that found nothing to share

Columns = Mapping[str, Any]


class Recorder:
    """Ends attempts, one way or another, and puts their claims down; thread-safe."""

    def __init__(
        self,
        ledger: Ledger,
        store: BlobStore,
        detector: DeFakerOne,
        leases: Leases,
        settings: Settings,
        *,
        twins: Twins,
        telling: Telling,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._detector = detector
        self._leases = leases
        self._settings = settings
        self._twins = twins
        self._telling = telling

    def record(self, ready: Ready, inference: Inference | Failed | Released) -> None:
        """Store what the detector said about one image."""
        if isinstance(inference, Failed | Released):
            self.end(ready.claim, inference)
            return
        try:
            with metrics.stage("finish"):
                detection = self._detector.finish(ready.prepared, inference)
        except DetectorError as error:
            logger.exception("recording.no_finding", error=str(error))
            detail = f"The detector gave no usable result ({type(error).__name__})."
            self.end(ready.claim, Failed(Failure(FailureCode.INFERENCE_FAILED, detail), strike=True))
            return
        with metrics.stage("encode"):
            files = {"mask": encode_mask(detection.mask), "heatmap": encode_heatmap(detection.heatmap)}
        conflicts = provenance.conflicts(ready.provenance, detection.label)
        said = {**ready.provenance, "conflicts": conflicts}
        blocking = not provenance.BLOCKING.isdisjoint(conflicts)
        finding = {**self._finding(ready, detection), "provenance_conflict": blocking}
        self.complete(ready.claim, finding, files, ready.image, said)

    def complete(
        self, claim: Claim, finding: Columns, files: Mapping[str, bytes], image: Columns, said: Columns | None
    ) -> None:
        """Upload a finding's files and commit it, or give the row back where storage fails; its twins' likewise.

        `finding` holds the finding's columns but those about its files: `mask` and `heatmap`, as PNG; `said` those of
        what the image's file says of itself.
        """
        if self._complete(claim, finding, files, image, said):
            reused = {"decode_ms": 0, "inference_ms": 0, "reused_from": finding.get("reused_from", claim.screening_id)}
            for twin in self._twins.part(claim):
                self._complete(twin, {**finding, **reused}, files, image, said)
        self._part(claim, PARTED)

    def _complete(
        self, claim: Claim, finding: Columns, files: Mapping[str, bytes], image: Columns, said: Columns | None
    ) -> bool:
        """One of them; whether there is a finding now."""
        keys = {kind: _key(claim, kind) for kind in files}
        try:
            with metrics.stage("upload"):
                for kind, data in files.items():
                    self._store.put(keys[kind], data, PNG)
        except BlobStoreError as error:
            logger.warning("recording.blob_store", error=str(error))
            self.end(claim, Released("blob_store"))
            return False
        milestones.reached(Milestone.UPLOADED, claim)
        named = {f"{kind}_key": key for kind, key in keys.items()}
        hashed = {f"{kind}_sha256": hashlib.sha256(data).digest() for kind, data in files.items()}
        recorded = self._commit(claim, {**_identity(claim), **finding, **named, **hashed}, image, said)
        if not recorded:
            self._take_back(list(keys.values()))
        milestones.reached(Milestone.RECORDED, claim)
        return recorded

    def _commit(self, claim: Claim, finding: Columns, image: Columns, said: Columns | None) -> bool:
        """Whether the finding is recorded, now or by a commit whose answer was lost."""
        try:
            with metrics.stage("commit"):
                held = self._ledger.write(lambda s: jobs.complete(s, claim, Finding(**finding), image, said))
        except DBAPIError:
            logger.exception("recording.database")
            self.end(claim, Released("database"))
            return True  # a commit may have gone through unheard: better an orphaned file than a finding without one
        recorded = held or self._ledger.write(lambda s: progress.recorded(s, claim))
        if recorded:
            self._telling.committed()
        metrics.ENDED.labels("succeeded" if recorded else "fenced").inc()
        self._leases.drop(claim)
        return recorded

    def _take_back(self, keys: list[str]) -> None:
        """Remove the files of an attempt that lost its row, which may have been erased."""
        try:
            self._store.delete(keys)
        except BlobStoreError as error:
            logger.warning("recording.orphans", keys=keys, error=str(error))

    def end(self, claim: Claim, outcome: Failed | Released) -> None:
        """End an attempt without a finding, and with it those of its twins."""
        certain = isinstance(outcome, Failed) and not outcome.strike
        stopping = isinstance(outcome, Released) and outcome.reason == "shutdown"
        self._part(claim, outcome if certain or stopping else PARTED)
        try:
            if isinstance(outcome, Failed):
                self._fail(claim, outcome)
            else:
                self._release(claim, outcome)
        except DBAPIError:
            logger.exception("recording.database")  # the lease runs out, and the sweeper takes the row back
        self._leases.drop(claim)

    def _part(self, claim: Claim, outcome: Failed | Released) -> None:
        """End those that still wait for this one."""
        for twin in self._twins.part(claim):
            self.end(twin, outcome)

    def _fail(self, claim: Claim, outcome: Failed) -> None:
        metrics.FAILURES.labels(outcome.failure.code).inc()
        wait = self._settings.retry_seconds * 2**claim.strikes * (SLOWLY if outcome.slowly else 1)
        limit = self._settings.max_strikes
        self._ledger.write(
            lambda s: jobs.fail(s, claim, outcome.failure, strike=outcome.strike, max_strikes=limit, retry_in=wait)
        )
        self._telling.committed()
        logger.info("screening.failed_attempt", code=outcome.failure.code, strike=outcome.strike)

    def _release(self, claim: Claim, outcome: Released) -> None:
        metrics.RELEASES.labels(outcome.reason).inc()
        wait = min(LONGEST_WAIT, self._settings.retry_seconds * 2 ** min(claim.attempt - 1, 10))
        self._ledger.write(
            lambda s: jobs.release(s, claim, reason=outcome.reason, retry_in=wait if outcome.backoff else 0)
        )

    def _finding(self, ready: Ready, detection: Detection) -> Columns:
        return dict(
            **self._detector.versions,
            label=detection.label,
            score=detection.score,
            probability=detection.probability,
            calibration_id=detection.calibration_id,
            reasons=[*detection.reasons, *(r for r in ready.reasons if r not in detection.reasons)],
            area_fraction=detection.area_fraction,
            extent=detection.extent,
            mask_verdict_conflict=detection.mask_verdict_conflict,
            regions=[region.to_json() for region in detection.regions],
            service=VERSION,
            decode_ms=ready.decode_ms,
            inference_ms=ready.inference_ms,
        )


def _key(claim: Claim, kind: str) -> str:
    return blobs.derived_key(claim.platform_id, claim.screening_id, claim.attempt, f"{kind}.png")


def _identity(claim: Claim) -> Columns:
    return {"screening_id": claim.screening_id, "platform_id": claim.platform_id, "attempt": claim.attempt}
