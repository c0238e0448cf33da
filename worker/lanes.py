"""How many batches does the detector run at the same time?

On a GPU one: the device is busy with it, and captured graphs belong to the thread that captured them. On a CPU as many
as there are cores: cores that share one batch wait for each other at the end of every operation, cores with a batch of
their own do not. A batch that runs by itself still gets all of them. The weights are shared.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

MOST = 8  # on a CPU; each lane holds the activations of a batch


class Lanes(Generic[T, R]):
    """Threads that run one function of a batch each. `cores`: for all of them together; 0 means all there are."""

    def __init__(self, run: Callable[[Sequence[T]], R], *, device: str, cores: int = 0) -> None:
        self._run = run
        self._cores = cores or len(os.sched_getaffinity(0))
        self.count = min(self._cores, MOST) if device == "cpu" else 1
        self._threads = ThreadPoolExecutor(self.count, "detect")
        self._busy = 0
        self._lock = threading.Lock()

    def submit(self, batch: Sequence[T]) -> Future[R]:
        """Run a batch as soon as a lane is free."""
        return self._threads.submit(self._on_lane, batch)

    def _on_lane(self, batch: Sequence[T]) -> R:
        with self._lock:
            self._busy += 1
            share = max(1, self._cores // self._busy)
        try:
            torch.set_num_threads(share)  # of this thread's own operations
            return self._run(batch)
        finally:
            with self._lock:
                self._busy -= 1

    def call(self, function: Callable[[], None]) -> None:
        """Run something else on a lane, and wait for it."""
        self._threads.submit(function).result()

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)
