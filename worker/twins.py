"""What becomes of bytes that are being worked on already, when the same platform sends them once more?

They wait in hand for the first, and get a copy of what is found in it: a viral image that arrives a hundred times in a
minute runs through the detector once. Only within one process; two processes may each infer an image once.
"""

import threading
from uuid import UUID

from screening.jobs import Claim

Key = tuple[UUID, bytes]  # platform, sha256 of the bytes


class Twins:
    """Which claims wait for which. Thread-safe."""

    def __init__(self) -> None:
        self._first: dict[Key, UUID] = {}
        self._waiting: dict[UUID, list[Claim]] = {}  # by the id of the first
        self._lock = threading.Lock()

    def wait(self, claim: Claim) -> bool:
        """Whether this claim waits for an equal one; if not, equal ones wait for it from now on."""
        if claim.sha256 is None:
            return False
        with self._lock:
            first = self._first.setdefault((claim.platform_id, claim.sha256), claim.screening_id)
            if first == claim.screening_id:
                self._waiting.setdefault(first, [])
                return False
            self._waiting[first].append(claim)
            return True

    def part(self, claim: Claim) -> list[Claim]:
        """Who waited for this claim, which has ended or is put down. Nobody waits for it any more."""
        with self._lock:
            if claim.sha256 is not None and claim.screening_id in self._waiting:
                del self._first[claim.platform_id, claim.sha256]
            return self._waiting.pop(claim.screening_id, [])

    def close(self) -> None:
        """Forget everybody: a drain that broke off leaves rows to their leases."""
        with self._lock:
            self._first.clear()
            self._waiting.clear()
