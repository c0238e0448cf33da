"""How does a pool child learn that its worker was asked to stop?

Celery's warm shutdown waits for running tasks and tells them nothing, and a draining task could run for a minute more.
One byte of memory shared by parent and children says it: the parent sets it in its signal handler, where nothing that
takes a lock would be safe, and children look at it between images. It must exist before the pool forks.
"""

import mmap
import os
import signal
from types import FrameType

LATE = b"worker: ended without waiting for jobs whose child was lost\n"

_flag = mmap.mmap(-1, 1)


def request() -> None:
    """Ask every child to put down its work."""
    _flag[0] = 1


def end_within(seconds: float) -> None:
    """End this process after so long, whatever Celery still waits for.

    A warm shutdown waits for the result of every job in the pool's cache, also of one whose child was killed a moment
    ago: with the supervisor of lost jobs already stopped, that result never comes. Children have put down their work
    by then, or hang; what they held comes back by its lease. They end with us.
    """
    signal.signal(signal.SIGALRM, _end)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _end(_number: int, _frame: FrameType | None) -> None:
    # The buffered log may be locked by whomever the signal interrupted.
    os.write(2, LATE)
    os._exit(0)


def requested() -> bool:
    """Whether this worker is stopping."""
    return _flag[0] == 1
