"""What does a bell in the queue `maintenance` set off? Retention, and once a day a look for blobs that nobody owns."""

from collections.abc import Callable
from dataclasses import asdict

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from screening.blobs import BlobStore, open_store
from screening.broker import Task
from screening.database import sync_engine
from screening.errors import BlobStoreError
from screening.settings import settings
from worker.app import app
from worker.housekeeping import orphans
from worker.housekeeping import purge as erased

logger = structlog.get_logger(__name__)


@app.task(name=Task.PURGE.value)  # type: ignore[untyped-decorator]
def purge() -> None:
    """Erase what its platform no longer wants kept, and remove the bytes of everything erased."""
    _keep_house(_purge)


@app.task(name=Task.SWEEP_BLOBS.value)  # type: ignore[untyped-decorator]
def sweep_blobs() -> None:
    """Remove blobs that belong to nobody."""
    _keep_house(orphans.sweep)


def _purge(sessions: sessionmaker[Session], store: BlobStore) -> None:
    logger.info("purge.done", **asdict(erased.purge(sessions, store)))


def _keep_house(work: Callable[[sessionmaker[Session], BlobStore], object]) -> None:
    """Run work that the next bell would take up where this one broke off."""
    engine = sync_engine(settings().database_url, pool_size=1)
    try:
        work(sessionmaker(engine), open_store(settings().blob_url, settings().s3_endpoint_url))
    except (SQLAlchemyError, BlobStoreError) as error:
        logger.warning("housekeeping.away", error=type(error).__name__)
    finally:
        engine.dispose()
