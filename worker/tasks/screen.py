"""What does a bell in the queue `screenings` set off? One drain of whatever is due, whichever id the bell carried."""

import ctypes
import os
import signal
import sys
from typing import Any

import structlog
from billiard.process import current_process
from celery import signals
from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy.exc import SQLAlchemyError

from screening.broker import Task
from screening.database import cause
from screening.embedded.process import PR_SET_PDEATHSIG
from screening.settings import settings
from worker import devices
from worker.app import app

logger = structlog.get_logger(__name__)

PARENT = os.getpid()  # this module is imported before the pool forks


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def _begin(**_: Any) -> None:
    """Load the detector at once. Celery logs what goes wrong here; then each bell tries again."""
    _die_with_parent()
    devices.claim_own(settings().device, current_process().index)
    # OpenMP's threads spin while they wait for each other. Beside decoders and recorders that want the same cores, they
    # spin against those who hold them up: an image then costs several times its CPU time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # So do OpenBLAS's, which nothing tells not to: the small products of a perceptual hash cost nine times as much.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from worker.child import child  # imports torch, which must see its GPU and may not exist in the parent

    child()


def _die_with_parent() -> None:
    """An orphan would keep a GPU's memory and wait for bells that nobody hands on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != PARENT:  # it died before the kernel was asked to tell us
        os._exit(1)


@app.task(name=Task.SCREEN.value)  # type: ignore[untyped-decorator]
def screen(screening_id: str | None = None) -> None:
    """Drain due screenings. A database that is away costs nothing here: the sweeper rings when it is back."""
    from worker.child import child
    from worker.isolation import BrokenDeviceError

    try:
        child().screen()
    except SQLAlchemyError as error:
        logger.warning("screen.database", error=type(error).__name__, detail=cause(error))
    except (BrokenDeviceError, SoftTimeLimitExceeded):
        # The device is lost to this process, or a thread of it hangs: only another process can go on. What this one
        # held is tried alone once its lease has run out.
        logger.exception("screen.gives_up")
        os._exit(1)
