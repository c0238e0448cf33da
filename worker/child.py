"""What does a pool child hold from its first to its last task?

One detector on one device, one pipeline. Made in the child: nothing here may exist before the fork.
"""

import os
import socket
from functools import lru_cache

import structlog
from sqlalchemy.orm import sessionmaker

from screening.blobs import open_store
from screening.broker import Doorbell
from screening.database import sync_engine
from screening.settings import Settings, settings
from worker import detection, metrics, stopping
from worker.decoding.pool import DecoderPool
from worker.ledger import Ledger
from worker.pipeline import Equipment, Pipeline

logger = structlog.get_logger(__name__)


class Child:
    """Everything that one pool child works with."""

    def __init__(self, with_: Settings, name: str) -> None:
        engine = sync_engine(with_.database_url, pool_size=10, idle_seconds=with_.lease_seconds)
        self._ledger = Ledger(sessionmaker(engine, expire_on_commit=False), patience=with_.lease_seconds)
        model = detection.load(with_)
        self._doorbell = Doorbell(with_.redis_url)
        self._pipeline = Pipeline(
            Equipment(
                ledger=self._ledger,
                store=open_store(with_.blob_url, with_.s3_endpoint_url),
                decoders=DecoderPool(with_),
                detector=model,
                settings=with_,
                worker=name,
                ring_deliveries=self._doorbell.ring_deliveries,
            )
        )
        metrics.READY.set(1)
        logger.info("detector.ready", **model.versions)

    def screen(self) -> None:
        """Answer one bell: drain what is due, and ring for whoever is free if something remains."""
        if self._pipeline.drain(stopping.requested):
            self._doorbell.ring_screening()


@lru_cache(maxsize=1)
def child() -> Child:
    """This process's own. Loading takes seconds to minutes; an error is raised again at the next bell."""
    return Child(settings(), f"{socket.gethostname()}:{os.getpid()}")
