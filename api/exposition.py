"""Where are the figures read? On a port of their own, which is not public, from one place for all processes."""

import os
from collections.abc import Iterable

import structlog
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from api import metrics
from screening import jobs
from screening.database import KEEPALIVE, psycopg_url
from screening.settings import Settings

logger = structlog.get_logger(__name__)


class QueueAge(Collector):
    """The age of the oldest due screening, asked of the database when somebody reads."""

    def __init__(self, database_url: str) -> None:
        # A scrape is rare: no connection is kept for it.
        self._engine = create_engine(psycopg_url(database_url), poolclass=NullPool, connect_args=KEEPALIVE)

    def describe(self) -> Iterable[Metric]:
        """Named without asking the database."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        """One gauge; without a value while the database is away."""
        family = self._family()
        try:
            with Session(self._engine) as session:
                family.add_metric([], jobs.oldest_due_seconds(session))
        except SQLAlchemyError as error:
            logger.warning("metrics.queue_age_unknown", error=type(error).__name__)
        return [family]

    @staticmethod
    def _family() -> GaugeMetricFamily:
        return GaugeMetricFamily("assay_oldest_due_seconds", "Age of the oldest due, unclaimed screening.")


def registry(settings: Settings) -> CollectorRegistry:
    """What is exposed: this process's figures, or those of all processes where they share a folder."""
    exposed = metrics.REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        exposed = CollectorRegistry()
        MultiProcessCollector(exposed)  # type: ignore[no-untyped-call]
    exposed.register(QueueAge(settings.database_url))
    return exposed


def serve(settings: Settings) -> None:
    """Answer scrapes on the metrics port from a thread, until the process ends."""
    start_http_server(settings.metrics_port, registry=registry(settings))
