"""What does a bell in the queue `screenings` set off? One drain of whatever is due, whichever id the bell carried."""

import ctypes
import os
import signal
import sys
from typing import Any

import structlog
from billiard.process import current_process
from celery import signals
from sqlalchemy.exc import SQLAlchemyError

from screening.broker import Task
from screening.embedded.process import PR_SET_PDEATHSIG
from screening.settings import settings
from worker import devices
from worker.app import app

logger = structlog.get_logger(__name__)


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def _begin(**_: Any) -> None:
    """Load the detector at once. Celery logs what goes wrong here; then each bell tries again."""
    _die_with_parent()
    devices.claim_own(settings().device, current_process().index)
    from worker.child import child  # imports torch, which must see its GPU and may not exist in the parent

    child()


def _die_with_parent() -> None:
    """An orphan would keep a GPU's memory and wait for bells that nobody hands on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:
        os._exit(1)


@app.task(name=Task.SCREEN.value)  # type: ignore[untyped-decorator]
def screen(screening_id: str | None = None) -> None:
    """Drain due screenings. A database that is away costs nothing here: the sweeper rings when it is back."""
    from worker.child import child
    from worker.isolation import BrokenDeviceError

    try:
        child().screen()
    except SQLAlchemyError as error:
        logger.warning("screen.database", error=type(error).__name__)
    except BrokenDeviceError:
        # Nothing in this process can use the device again. What it held is tried alone once its lease has run out.
        logger.exception("screen.device")
        os._exit(1)
