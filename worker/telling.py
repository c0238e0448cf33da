"""How do the senders of webhooks hear soon that events were committed, without a bell an image?

The first commit rings at once; those that follow within a moment are remembered, and rung for together. What is still
unsaid when a worker dies, the sweeper says.
"""

import threading
import time
from collections.abc import Callable

MOMENT = 0.5  # seconds


class Telling:
    """Rings for deliveries at most once a moment. Thread-safe."""

    def __init__(self, ring: Callable[[], object], moment: float = MOMENT) -> None:
        self._ring = ring
        self._moment = moment
        self._rung = float("-inf")
        self._unsaid = False
        self._lock = threading.Lock()

    def committed(self) -> None:
        """Say that events were committed."""
        with self._lock:
            now = time.monotonic()
            self._unsaid = now - self._rung < self._moment
            if self._unsaid:
                return
            self._rung = now
        self._ring()

    def close(self) -> None:
        """Ring for what was only remembered."""
        with self._lock:
            unsaid, self._unsaid = self._unsaid, False
        if unsaid:
            self._ring()
