"""What can be seen of a worker from outside: is it ready, does it move, and against what backlog?

Pool children count, the parent serves: prometheus-client's multiprocess mode keeps each child's numbers in a file of a
shared folder, which `PROMETHEUS_MULTIPROC_DIR` must name before that package is first imported (commands/worker.py).
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess, start_http_server
from prometheus_client.core import Metric

from screening.backlog import Backlog
from screening.settings import Settings

logger = structlog.get_logger(__name__)

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

READY = Gauge("assay_worker_ready", "Children whose detector is loaded and warmed.", multiprocess_mode="livesum")
PROGRESS = Gauge(
    "assay_worker_progress_timestamp_seconds", "When an image last ended or was given back.", multiprocess_mode="max"
)
BATCH = Histogram("assay_batch_images", "Images in one run of the detector.", buckets=SIZES)
ENDED = Counter("assay_screenings_ended", "Screenings ended by this worker.", ["outcome"])
FAILURES = Counter("assay_failures", "Images that failed, by reason; strikes that try again included.", ["code"])
RELEASES = Counter("assay_releases", "Images given back without a strike, by reason.", ["reason"])
ATTEMPTS = Counter("assay_delivery_attempts", "Attempts to deliver a webhook, by what came of them.", ["outcome"])
ATTEMPT = Histogram("assay_delivery_attempt_seconds", "Time one attempt to deliver took.", buckets=SECONDS)
STAGE = Histogram("assay_stage_seconds", "Time spent in one stage, for one image or batch.", ["stage"], buckets=SECONDS)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time a block as one stage."""
    start = time.perf_counter()
    try:
        yield
    finally:
        STAGE.labels(name).observe(time.perf_counter() - start)


class Children(multiprocess.MultiProcessCollector):
    """The children's numbers, without the live gauges of those that have died."""

    def __init__(self, folder: Path) -> None:
        super().__init__(None, str(folder))  # type: ignore[no-untyped-call]
        self._folder = folder

    def collect(self) -> list[Metric]:
        """Bury the dead, then read."""
        for path in self._folder.glob("gauge_live*.db"):
            pid = int(path.stem.rpartition("_")[2])
            if not Path(f"/proc/{pid}").exists():
                multiprocess.mark_process_dead(pid, str(self._folder))  # type: ignore[no-untyped-call]
        metrics: list[Metric] = list(super().collect())  # type: ignore[no-untyped-call]
        return metrics


def serve(settings: Settings) -> None:
    """Serve the metrics of this worker from a thread of its parent."""
    registry = CollectorRegistry()
    registry.register(Children(Path(os.environ[FOLDER])))
    registry.register(Backlog(settings))
    start_http_server(settings.metrics_port, registry=registry)
    logger.info("metrics.served", port=settings.metrics_port)
