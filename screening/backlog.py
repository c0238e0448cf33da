"""What waits, and for how long? Read from the rows when Prometheus asks: no process has to live to count."""

from collections.abc import Iterable

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from screening import deliveries, progress
from screening.database import KEEPALIVE, psycopg_url
from screening.settings import Settings

logger = structlog.get_logger(__name__)

SCREENINGS = ("assay_oldest_due_seconds", "Age of the oldest due, unclaimed screening.")
DELIVERIES = (
    "assay_delivery_oldest_due_seconds",
    "Age of the oldest delivery that a sender could take now: what lack of senders, not a slow endpoint, holds up.",
)
DEAD = ("assay_dead_letters", "Deliveries that were given up and not replayed since.")


class Backlog(Collector):
    """Gauges about rows, the same from whichever process they are read."""

    def __init__(self, settings: Settings) -> None:
        # No pool: scrapes are rare, and a worker's parent forks: a child must not inherit an open connection.
        self._engine = create_engine(psycopg_url(settings.database_url), poolclass=NullPool, connect_args=KEEPALIVE)
        self._limits = deliveries.Limits.of(settings)

    def describe(self) -> Iterable[Metric]:
        """Named without asking the database."""
        return [GaugeMetricFamily(*named) for named in (SCREENINGS, DELIVERIES, DEAD)]

    def collect(self) -> Iterable[Metric]:
        """Without values while the database is away: a missing sample is honest, a zero is not."""
        try:
            with Session(self._engine) as session:
                values = (
                    progress.oldest_due_seconds(session),
                    deliveries.oldest_due_seconds(session, self._limits),
                    deliveries.dead_letters(session),
                )
        except SQLAlchemyError as error:
            logger.warning("metrics.backlog_unknown", error=type(error).__name__)
            return self.describe()
        return [
            GaugeMetricFamily(*named, value=v) for named, v in zip((SCREENINGS, DELIVERIES, DEAD), values, strict=True)
        ]
