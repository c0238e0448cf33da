"""How do claimed screenings flow through decode, detector and recording without one waiting for another?

    feeder      claim -> duplicates answered at once -> the rest prepared, one thread an image  -+  next batch
    lanes                                    detector on a batch  <------------------------------+  this batch
    recorders   finish, encode, upload, one thread an image; one commit  <- results                 last batch

    fetchers    bytes of a source -> its image, and the row back to the queue

Two batches more than there are lanes are in hand at most, so memory is bounded. A row that a worker once died with is
taken only with empty hands, and is then the only one.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog
from sqlalchemy.orm import Session

from screening import jobs, progress
from screening.blobs import BlobStore
from screening.duplicates import Earlier
from screening.jobs import Claim
from screening.settings import Settings
from worker import detection, metrics, milestones
from worker.decoding.pool import DecoderPool
from worker.defakerone import DeFakerOne
from worker.isolation import infer_each
from worker.lanes import Lanes
from worker.leases import Leases
from worker.ledger import Ledger
from worker.milestones import Milestone
from worker.outcomes import Released
from worker.preparation import Preparation, Ready
from worker.provenance.credentials import trust_anchors
from worker.recording import Recorder, Result
from worker.reuse import Reuse
from worker.sources import Sources
from worker.telling import Telling
from worker.twins import Twins

logger = structlog.get_logger(__name__)

SHUTDOWN = Released("shutdown", backoff=False)
FENCED = Released("fenced", backoff=False)

Stop = Callable[[], bool]
Recording = Future[None]


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a pipeline works with."""

    ledger: Ledger
    store: BlobStore
    decoders: DecoderPool
    detector: DeFakerOne
    settings: Settings
    worker: str  # who claims, for the attempts' timeline
    ring_deliveries: Callable[[], object]


class Pipeline:
    """Drains due screenings. One a process; `drain` may be called again and again, one call at a time."""

    def __init__(self, with_: Equipment) -> None:
        self._with = with_
        settings = with_.settings
        self._lease = timedelta(seconds=settings.lease_seconds)
        self._leases = Leases(with_.ledger, lease=settings.lease_seconds, stall=settings.stall_seconds)
        self._twins = Twins()
        self._telling = Telling(with_.ring_deliveries)
        self._recorder = Recorder(
            with_.ledger, with_.store, with_.detector, self._leases, settings, twins=self._twins, telling=self._telling
        )
        self._reuse = Reuse(with_.ledger, with_.store, with_.detector.versions)
        self._preparation = Preparation(
            with_.store, with_.decoders, with_.detector, trust_anchors(settings.c2pa_trust_anchors)
        )
        self._sources = Sources(with_.ledger, with_.store, self._recorder, settings)
        self._lanes = Lanes(self._detect, device=with_.detector.device.type, cores=settings.worker_threads)
        self._lanes.call(partial(detection.warm, with_.detector))
        self._feeder = ThreadPoolExecutor(1, "feeder")
        # While some images decode, others are fetched or hashed.
        self._preparers = ThreadPoolExecutor(2 * settings.decoders, "prepare")
        self._recorders = ThreadPoolExecutor(max(2, settings.decoders), "record")

    def drain(self, stopping: Stop) -> bool:
        """Work until nothing is due, `drain_seconds` have passed or `stopping`; returns whether due rows remain.

        Raises SQLAlchemy's errors where claiming fails, and whatever nobody foresaw: then the leases of what was in
        hand run out, as after a crash.
        """
        deadline = time.monotonic() + self._with.settings.drain_seconds
        with self._leases, closing(self._twins), closing(self._telling):
            while not (over := stopping() or time.monotonic() > deadline):
                flowed = self._flow(lambda: stopping() or time.monotonic() > deadline, stopping)
                lone = not stopping() and self._one_alone(stopping)
                if not (flowed or lone or self._sources.pause()):
                    break
            self._sources.settle(stopping)
        return over and self._with.ledger.once(progress.due_left)

    def _flow(self, over: Stop, stopping: Stop) -> bool:
        """Run batches, overlapped, until there are none, a lone row waits, or it is over; whether there were any."""
        under_way: deque[Future[Recording]] = deque()
        batches = 0
        upcoming = self._feeder.submit(self._next, stopping)
        try:
            while (batch := upcoming.result()) is not None:
                batches += 1
                upcoming = self._feeder.submit(self._next, stopping, yielding=True, over=over)
                under_way.append(self._lanes.submit(self._kept(batch, stopping)))
                while len(under_way) > self._lanes.count:  # one that is being recorded, beside those that run
                    under_way.popleft().result().result()
        finally:
            wait([upcoming])
            wait(under_way)
            for lane in under_way:
                if lane.exception() is None:
                    wait([lane.result()])
        for lane in under_way:
            lane.result().result()
        return batches > 0

    def _next(self, stopping: Stop, *, yielding: bool = False, over: Stop = bool) -> list[Ready] | None:
        """Claim and prepare a batch; None where nothing is due, it is over, or we yield to a lone row."""
        if over():
            return None
        claims = self._with.ledger.once(lambda session: self._claim(session, yielding=yielding))
        return self._ready(claims, stopping) if claims else None

    def _claim(self, session: Session, *, yielding: bool) -> list[Claim]:
        if yielding and progress.alone_due(session):
            return []
        settings = self._with.settings
        return jobs.claim(
            session,
            limit=settings.batch_size,
            worker=self._with.worker,
            lease=self._lease,
            sated=self._sources.sated(),
        )

    def _one_alone(self, stopping: Stop) -> bool:
        """Take one row that a worker died with, and nothing beside it; whether there was one."""
        claim = partial(jobs.claim_alone, worker=self._with.worker, lease=self._lease)
        claims = self._with.ledger.once(claim)
        if claims:
            self._lanes.submit(self._kept(self._ready(claims, stopping), stopping)).result().result()
            self._sources.settle(stopping)
        return bool(claims)

    def _ready(self, claims: Sequence[Claim], stopping: Stop) -> list[Ready]:
        """Prepare what was claimed; what ends on the way is ended here."""
        self._leases.hold(claims)
        for claim in claims:
            milestones.reached(Milestone.CLAIMED, claim)
        first = [claim for claim in claims if not self._twins.wait(claim)]
        earlier = self._reuse.find(first)
        prepared = list(self._preparers.map(lambda c: self._prepare(c, earlier.get(c.screening_id), stopping), first))
        self._recorder.commit([copy for copy in prepared if isinstance(copy, Result)])
        return [ready for ready in prepared if isinstance(ready, Ready)]

    def _prepare(self, claim: Claim, earlier: Earlier | None, stopping: Stop) -> Ready | Result | None:
        if stopping():
            self._recorder.end(claim, SHUTDOWN)
            return None
        if self._sources.concern(claim):
            self._sources.take(claim)
            return None
        if earlier is not None and (copy := self._reuse.copy(claim, earlier)) is not None:
            return copy if self._recorder.upload(copy) else None
        outcome = self._preparation.prepare(claim)
        self._leases.progress()
        if isinstance(outcome, Ready):
            return outcome
        self._recorder.end(claim, outcome)
        return None

    def _detect(self, batch: Sequence[Ready]) -> Recording:
        """Run the detector, and hand the results to the recorders."""
        if not batch:
            return self._recorders.submit(self._commit, [])
        metrics.BATCH.observe(len(batch))
        start = time.perf_counter()
        with metrics.stage("infer"):
            results = infer_each(self._with.detector.infer, [ready.prepared for ready in batch])
        share = round((time.perf_counter() - start) * 1000 / len(batch))
        self._leases.progress()
        for ready in batch:
            ready.inference_ms = share
            milestones.reached(Milestone.INFERRED, ready.claim)
        storing = [self._recorders.submit(self._recorder.store, *pair) for pair in zip(batch, results, strict=True)]
        return self._recorders.submit(self._commit, storing)

    def _commit(self, storing: Sequence[Future[Result | None]]) -> None:
        """Commit what a batch has found, then raise what nobody foresaw. Those it waits for were submitted before."""
        wait(storing)
        stored = [future.result() for future in storing if future.exception() is None]
        self._recorder.commit([result for result in stored if result is not None])
        for future in storing:
            future.result()

    def _kept(self, batch: Sequence[Ready], stopping: Stop) -> list[Ready]:
        """What is still ours, and still to be done."""
        return [ready for ready in batch if self._keep(ready.claim, stopping)]

    def _keep(self, claim: Claim, stopping: Stop) -> bool:
        if self._leases.lost(claim):
            self._recorder.end(claim, FENCED)
            return False
        if stopping():
            self._recorder.end(claim, SHUTDOWN)
            return False
        return True

    def close(self) -> None:
        """End the threads and the decoders."""
        self._with.decoders.close()
        self._sources.close()
        self._lanes.close()
        for pool in (self._feeder, self._preparers, self._recorders):
            pool.shutdown(cancel_futures=True)
