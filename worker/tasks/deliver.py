"""What does a bell in the queue `deliveries` set off? One drain of the deliveries that are due."""

import asyncio

import structlog
from sqlalchemy.exc import SQLAlchemyError

from screening.broker import Task
from screening.settings import settings
from worker import stopping
from worker.app import app
from worker.deliveries import sender

logger = structlog.get_logger(__name__)


@app.task(name=Task.DELIVER.value)  # type: ignore[untyped-decorator]
def deliver() -> None:
    """Send what is due. A database that is away costs nothing here: the sweeper rings when it is back."""
    try:
        drained = asyncio.run(sender.drain(settings(), stopping.requested))
    except SQLAlchemyError as error:
        logger.warning("deliver.database", error=type(error).__name__)
        return
    if drained.attempts:
        logger.info("deliver.drained", attempts=drained.attempts, delivered=drained.delivered)
