"""How does what the detector said become a stored finding, or an attempt end without one?

Mask and heat map are uploaded first, under keys of this very attempt, then one transaction writes the findings of a
batch. A worker that dies in between leaves files that nothing names; one that lost a lease takes its files away again.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError

from screening import blobs, jobs, progress, provenance
from screening.blobs import BlobStore
from screening.errors import BlobStoreError, Failure, FailureCode
from screening.findings import Completion
from screening.jobs import Claim
from screening.settings import Settings
from screening.tables import Finding
from worker import metrics, milestones
from worker.defakerone import DeFakerOne
from worker.defakerone.errors import DetectorError
from worker.defakerone.verdict import Detection, Inference
from worker.leases import Leases
from worker.ledger import CONNECTION_ERRORS, Ledger
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


@dataclass(frozen=True, slots=True)
class Result:
    """What is to be recorded for one claim."""

    claim: Claim
    finding: Columns  # the finding's, but those about its files
    files: Mapping[str, bytes]  # `mask` and `heatmap`, as PNG
    image: Columns  # what only decoding could tell
    said: Columns | None  # what the image's file says of itself

    @property
    def keys(self) -> dict[str, str]:
        """Where the files lie, by their names."""
        claim = self.claim
        folder = claim.platform_id, claim.screening_id, claim.attempt
        return {name: blobs.derived_key(*folder, f"{name}.png") for name in self.files}

    def completion(self) -> Completion:
        """The same as rows."""
        claim = self.claim
        named = {f"{name}_key": key for name, key in self.keys.items()}
        hashed = {f"{name}_sha256": hashlib.sha256(data).digest() for name, data in self.files.items()}
        whose = {"screening_id": claim.screening_id, "platform_id": claim.platform_id, "attempt": claim.attempt}
        return Completion(claim, Finding(**whose, **self.finding, **named, **hashed), self.image, self.said)

    def copy(self, twin: Claim) -> "Result":
        """The same finding for a claim of the same bytes."""
        source = self.finding.get("reused_from", self.claim.screening_id)
        return replace(
            self, claim=twin, finding={**self.finding, "decode_ms": 0, "inference_ms": 0, "reused_from": source}
        )


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

    def store(self, ready: Ready, inference: Inference | Failed | Released) -> Result | None:
        """Turn what the detector said about one image into a result whose files are stored; None: it has ended."""
        if isinstance(inference, Failed | Released):
            self.end(ready.claim, inference)
            return None
        try:
            with metrics.stage("finish"):
                detection = self._detector.finish(ready.prepared, inference)
        except DetectorError as error:
            logger.exception("recording.no_finding", error=str(error))
            detail = f"The detector gave no usable result ({type(error).__name__})."
            self.end(ready.claim, Failed(Failure(FailureCode.INFERENCE_FAILED, detail), strike=True))
            return None
        result = self._result(ready, detection)
        return result if self.upload(result) else None

    def _result(self, ready: Ready, detection: Detection) -> Result:
        with metrics.stage("encode"):
            files = {"mask": encode_mask(detection.mask), "heatmap": encode_heatmap(detection.heatmap)}
        conflicts = provenance.conflicts(ready.provenance, detection.label)
        said = {**ready.provenance, "conflicts": conflicts}
        blocking = not provenance.BLOCKING.isdisjoint(conflicts)
        finding = {**self._finding(ready, detection), "provenance_conflict": blocking}
        return Result(ready.claim, finding, files, ready.image, said)

    def upload(self, result: Result) -> bool:
        """Store a result's files; where storage fails, give the row back and return False."""
        try:
            with metrics.stage("upload"):
                for name, key in result.keys.items():
                    self._store.put(key, result.files[name], PNG)
        except BlobStoreError as error:
            logger.warning("recording.blob_store", error=str(error))
            self.end(result.claim, Released("blob_store"))
            return False
        milestones.reached(Milestone.UPLOADED, result.claim)
        return True

    def commit(self, results: Sequence[Result]) -> None:
        """Commit results whose files are stored, all at once, then those of their twins."""
        recorded = self._commit(results)
        self._commit([copy for result in recorded for copy in self._copies(result)])
        for result in results:
            self._part(result.claim, PARTED)

    def _copies(self, result: Result) -> Iterator[Result]:
        copies = (result.copy(twin) for twin in self._twins.part(result.claim))
        return (copy for copy in copies if self.upload(copy))

    def _commit(self, results: Sequence[Result]) -> list[Result]:
        """Which of them have a finding now, by this commit or by an earlier one whose answer was lost."""
        if not results:
            return []
        try:
            with metrics.stage("commit"):
                held = self._ledger.write(lambda s: jobs.complete_all(s, [r.completion() for r in results]))
        except CONNECTION_ERRORS:
            return self._not_committed(results)
        except DBAPIError:
            # What the database refuses takes no neighbour with it.
            alone = len(results) == 1
            return self._not_committed(results) if alone else [r for one in results for r in self._commit([one])]
        return self._settle(results, held)

    def _not_committed(self, results: Sequence[Result]) -> list[Result]:
        """Give the rows back. Files stay: a commit may have gone through unheard, and better an orphan than a hole."""
        logger.exception("recording.database")
        for result in results:
            self.end(result.claim, Released("database"))
        return []

    def _settle(self, results: Sequence[Result], held: set[UUID]) -> list[Result]:
        """Put the claims down, take back the files of those that lost their rows; the others."""
        if unsure := [r.claim for r in results if r.claim.screening_id not in held]:
            held = held | self._ledger.write(lambda s: progress.recorded(s, unsure))
        recorded = [result for result in results if result.claim.screening_id in held]
        if recorded:
            self._telling.committed()
        for result in results:
            succeeded = result.claim.screening_id in held
            metrics.ENDED.labels("succeeded" if succeeded else "fenced").inc()
            self._leases.drop(result.claim)
            if not succeeded:
                self._take_back(list(result.keys.values()))
            milestones.reached(Milestone.RECORDED, result.claim)
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
