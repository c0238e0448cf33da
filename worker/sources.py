"""How do the bytes behind a URL or an object name become a screening's image, and hold up nobody else's?

Beside the batches, on threads of their own: a slow site may take its whole deadline while the detector goes on, and no
platform gets more than half of the threads. A row whose bytes have come goes back to the queue with its image and is
claimed again as if it had been uploaded, so that it shares batches and earlier findings like any other.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import timedelta
from io import BytesIO
from threading import Lock
from uuid import UUID

import structlog

from screening import blobs, header, jobs, platforms, progress
from screening.blobs import BlobStore
from screening.errors import BlobStoreError
from screening.header import Header, HeaderRefusedError
from screening.jobs import Claim
from screening.settings import Settings
from screening.tables import Image
from worker import metrics
from worker.fetching import Fetcher, FetchError
from worker.ledger import Ledger
from worker.outcomes import Failed, Released
from worker.recording import Recorder

logger = structlog.get_logger(__name__)

FETCHED = Released("fetched", backoff=False)
FENCED = Released("fenced", backoff=False)
SHUTDOWN = Released("shutdown", backoff=False)
GLANCE = 0.5  # seconds between looks at the queue while nothing but fetches is in hand

Stop = Callable[[], bool]


class Sources:
    """The fetches under way. `take` may be called from any thread, the rest from the pipeline's own."""

    def __init__(self, ledger: Ledger, store: BlobStore, recorder: Recorder, settings: Settings) -> None:
        self._ledger = ledger
        self._store = store
        self._recorder = recorder
        self._settings = settings
        self._fetcher = Fetcher(settings)
        self._threads = ThreadPoolExecutor(settings.fetchers, "fetch")
        self._under_way: dict[Future[None], Claim] = {}
        self._lock = Lock()

    @staticmethod
    def concern(claim: Claim) -> bool:
        """Whether this row's bytes are still to be fetched."""
        return claim.source is not None and claim.blob_key is None

    def take(self, claim: Claim) -> None:
        """Fetch for a claimed row, and end the claim, one way or another."""
        with self._lock:
            self._under_way[self._threads.submit(self._bring, claim)] = claim

    def sated(self) -> jobs.Sated:
        """Whose rows should not be claimed now where they need a fetch."""
        with self._lock:
            held = Counter(claim.platform_id for claim in self._under_way.values())
        most = max(1, self._settings.fetchers // 2)
        return jobs.Sated(
            everyone=held.total() >= self._settings.fetchers,
            platforms=[platform for platform, count in held.items() if count >= most],
        )

    def pause(self) -> bool:
        """Give the fetches under way a moment; whether there were any. Raises what nobody foresaw in one of them."""
        with self._lock:
            under_way = list(self._under_way)
        for done in wait(under_way, timeout=GLANCE, return_when=FIRST_COMPLETED).done:
            with self._lock:
                self._under_way.pop(done, None)
            done.result()
        return bool(under_way)

    def settle(self, stopping: Stop) -> None:
        """Wait for all fetches; once `stopping`, give back the rows of those that are still under way."""
        while not stopping() and self.pause():
            continue
        with self._lock:
            left, self._under_way = self._under_way, {}
        for future, claim in left.items():
            if future.cancel() or not future.done():
                self._recorder.end(claim, SHUTDOWN)  # what the thread still does is fenced

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _bring(self, claim: Claim) -> None:
        try:
            with metrics.stage("fetch"):
                data = self._fetcher.fetch(claim.source or {}, self._buckets(claim.platform_id))
            outcome = self._attach(claim, data, header.read(BytesIO(data), len(data), self._settings))
        except FetchError as error:
            outcome = Failed(error.failure, error.strike)
        except HeaderRefusedError as error:
            outcome = Failed(error.failure, strike=False)
        except BlobStoreError as error:
            # Not the message: it names the object, and platforms name objects after people.
            logger.warning("sources.blob_store", error=error.code or type(error).__name__)
            outcome = Released("blob_store")
        except MemoryError:
            outcome = Released("memory")
        self._recorder.end(claim, outcome)

    def _buckets(self, platform_id: UUID) -> list[str]:
        return self._ledger.write(lambda session: platforms.buckets(session, platform_id))

    def _attach(self, claim: Claim, data: bytes, found: Header) -> Failed | Released:
        """Store the bytes, then the row that names them; the other way round, a row could name nothing."""
        key = blobs.image_key(claim.platform_id, claim.screening_id)
        self._store.put(key, data, f"image/{found.format}")
        lease = timedelta(seconds=self._settings.lease_seconds)
        digest = hashlib.sha256(data).digest()

        def image() -> Image:  # made anew for each try of the transaction
            return Image(
                screening_id=claim.screening_id, platform_id=claim.platform_id, blob_key=key, sha256=digest,
                size=len(data), format=found.format, width=found.width, height=found.height,
                orientation_applied=found.turned,
            )  # fmt: skip

        if self._ledger.write(lambda session: jobs.fetched(session, claim, image(), lease=lease)):
            return FETCHED
        if self._ledger.write(lambda session: progress.erased(session, claim.screening_id)):
            self._store.delete([key])  # whoever erased it could not know that bytes were still to come
        return FENCED
