"""How do the cores of a CPU share a batch?

Cores that work on one operation together wait for each other at its end, thousands of times an image, and each wait is
as long as the slowest core's: on a machine that does anything else, many times the operation itself. So a batch is cut
into tasks that need nothing of each other (tiles and words of some images, the squares of others), and each core runs
whole tasks. As many cores are used as torch is set to use on the calling thread (`torch.set_num_threads`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

First = TypeVar("First")
Second = TypeVar("Second")
Result = TypeVar("Result")


class Cores(threading.local):
    """Runs tasks side by side. Threads start with the first tasks, so a fork before that does no harm.

    Every thread that calls has threads of its own: batches of two callers do not queue up behind each other.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._size = 0

    def run(
        self, first: Sequence[Callable[[], First]], second: Sequence[Callable[[], Second]], cores: int
    ) -> tuple[list[First], list[Second]]:
        """Run tasks of two kinds on `cores` cores, started in this order; results in the same order.

        Fewer tasks than cores: each gets several cores. Inside a task autograd is off. The first error is raised, after
        every task has ended: the caller may try again at once with less.
        """
        count = len(first) + len(second)
        if count < 2 or cores < 2:
            return [_without_autograd(task) for task in first], [_without_autograd(task) for task in second]
        share = max(1, cores // count)
        pool = self._executor(cores)
        firsts = [pool.submit(_on_core, task, share) for task in first]
        seconds = [pool.submit(_on_core, task, share) for task in second]
        wait(firsts)
        wait(seconds)
        torch.set_num_threads(cores)  # each thread's own setting became the default of threads yet to start
        return [future.result() for future in firsts], [future.result() for future in seconds]

    def _executor(self, cores: int) -> ThreadPoolExecutor:
        if self._pool is None or self._size != cores:
            self._pool, self._size = ThreadPoolExecutor(cores, "core"), cores
        return self._pool


def _on_core(task: Callable[[], Result], threads: int) -> Result:
    torch.set_num_threads(threads)
    return _without_autograd(task)


def _without_autograd(task: Callable[[], Result]) -> Result:
    with torch.inference_mode():
        return task()


def share_out(work: Sequence[int], parts: int) -> list[list[int]]:
    """Cut things (by index) into at most `parts` parts of about the same work, none empty."""
    shares: list[list[int]] = [[] for _ in range(max(1, min(parts, len(work))))]
    loads = [0] * len(shares)
    for index in sorted(range(len(work)), key=lambda i: -work[i]):
        least = loads.index(min(loads))
        shares[least].append(index)
        loads[least] += work[index]
    return [sorted(share) for share in shares]
