"""Batches side by side: as many as there are cores, each with its share of them."""

import threading
from collections.abc import Sequence

import torch

from worker.lanes import Lanes


def test_a_batch_alone_gets_all_cores_and_two_share_them() -> None:
    both = threading.Barrier(2)
    together = False

    def run(batch: Sequence[int]) -> int:
        if together:
            both.wait(10)
        return torch.get_num_threads()

    lanes: Lanes[int, int] = Lanes(run, device="cpu", cores=4)
    assert lanes.count == 4
    assert lanes.submit([1]).result() == 4
    together = True
    assert sorted(f.result() for f in [lanes.submit([1]), lanes.submit([2])])[0] == 2
    lanes.close()


def test_a_gpu_has_one_lane_and_always_the_same_thread() -> None:
    lanes: Lanes[int, int] = Lanes(lambda batch: threading.get_ident(), device="cuda", cores=4)
    assert lanes.count == 1
    assert len({lanes.submit([n]).result() for n in range(5)}) == 1
    lanes.close()
