"""How does a pool child learn that its worker was asked to stop?

Celery's warm shutdown waits for running tasks and tells them nothing, and a draining task could run for a minute more.
One byte of memory shared by parent and children says it: the parent sets it in its signal handler, where nothing that
takes a lock would be safe, and children look at it between images. It must exist before the pool forks.
"""

import mmap

_flag = mmap.mmap(-1, 1)


def request() -> None:
    """Ask every child to put down its work."""
    _flag[0] = 1


def requested() -> bool:
    """Whether this worker is stopping."""
    return _flag[0] == 1
