"""How is a worker woken without the client waiting for it? From a thread, after the commit, best effort.

A bell that Redis does not take costs seconds, never a screening: the sweeper rings again. So nothing here may delay
an answer or grow without bound.
"""

import queue
import threading
from collections.abc import Callable

from api.metrics import DOORBELL
from screening.broker import Doorbell

PENDING = 1000  # beyond this the bells are late anyway, and the sweeper's are as good


class BackgroundBell:
    """Rings from one daemon thread, which starts with the first ring: after any fork."""

    def __init__(self, bell: Doorbell) -> None:
        self._bell = bell
        self._pending: queue.Queue[Callable[[], bool] | None] = queue.Queue(PENDING)
        self._thread: threading.Thread | None = None

    def ring(self, which: Callable[[Doorbell], bool]) -> None:
        """Ring soon: `ring(lambda bell: bell.ring_screening(id))`. Returns at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
            self._thread.start()
        try:
            self._pending.put_nowait(lambda: which(self._bell))
        except queue.Full:
            DOORBELL.labels(outcome="dropped").inc()

    def _run(self) -> None:
        while (task := self._pending.get()) is not None:
            DOORBELL.labels(outcome="taken" if task() else "lost").inc()

    def close(self) -> None:
        """Ring what is pending and end the thread; a silent Redis holds nobody up for longer than its time-outs."""
        if self._thread is None:
            return
        try:
            self._pending.put(None, timeout=1)
        except queue.Full:
            return
        self._thread.join(timeout=2)
