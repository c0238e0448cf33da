"""Tasks of a batch run on cores of their own, and nobody can tell from the results."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.unit.defakerone.conftest import PHOTOS, photo
from worker.defakerone import DeFakerOne
from worker.defakerone.cores import Cores, share_out
from worker.defakerone.settings import MaskMode


@pytest.fixture
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@given(st.lists(st.integers(1, 13), min_size=1, max_size=40), st.integers(1, 9))
def test_work_is_shared_out_whole_and_evenly(work: list[int], parts: int) -> None:
    shares = share_out(work, parts)
    assert sorted(index for share in shares for index in share) == list(range(len(work)))
    assert len(shares) == min(parts, len(work))
    loads = [sum(work[index] for index in share) for share in shares]
    assert max(loads) - min(loads) <= max(work)


@pytest.mark.usefixtures("_threads_as_before")
@pytest.mark.parametrize("cores", [1, 2, 3])
def test_results_come_in_order_and_autograd_is_off_inside(cores: int) -> None:
    def task(number: int) -> tuple[int, bool, int]:
        return number, torch.is_inference_mode_enabled(), torch.get_num_threads()

    torch.set_num_threads(cores)
    first, second = Cores().run([partial(task, n) for n in range(5)], [partial(task, n) for n in range(5, 7)], cores)
    assert [number for number, *_ in first + second] == list(range(7))
    assert all(off and threads == 1 for _, off, threads in first + second)
    assert torch.get_num_threads() == cores


@pytest.mark.usefixtures("_threads_as_before")
def test_fewer_tasks_than_cores_share_them_all() -> None:
    threads, _ = Cores().run([torch.get_num_threads, torch.get_num_threads], [], 7)
    assert threads == [3, 3]


@pytest.mark.usefixtures("_threads_as_before")
def test_tasks_run_side_by_side() -> None:
    meeting = threading.Barrier(2, timeout=30)
    arrivals, _ = Cores().run([meeting.wait, meeting.wait], [], 2)
    assert sorted(arrivals) == [0, 1]


@pytest.mark.usefixtures("_threads_as_before")
def test_batches_of_two_callers_run_side_by_side_too() -> None:
    shared, meeting = Cores(), threading.Barrier(4, timeout=30)
    with ThreadPoolExecutor(2) as callers:
        runs = [callers.submit(lambda: shared.run([meeting.wait] * 2, [meeting.wait][:0], 2)) for _ in range(2)]
        arrivals = [number for run in runs for number in run.result()[0]]
    assert sorted(arrivals) == [0, 1, 2, 3]


@pytest.mark.usefixtures("_threads_as_before")
def test_an_error_is_raised_once_every_task_has_ended() -> None:
    failed, ended = threading.Event(), threading.Event()

    def fail() -> None:
        failed.set()
        raise torch.OutOfMemoryError("no memory left")

    def go_on() -> None:
        assert failed.wait(30)
        ended.set()

    with pytest.raises(torch.OutOfMemoryError):
        Cores().run([fail], [go_on], 2)
    assert ended.is_set()


@pytest.mark.usefixtures("_threads_as_before")
@pytest.mark.parametrize("mode", ["always", "never", "above=0.5"])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_number_of_cores_changes_no_result(model: DeFakerOne, mode: str, count: int) -> None:
    sizes = [(600, 400), (97, 60), (360, 480), (300, 900), (50, 50), (448, 448), (640, 200)]
    pictures = [photo(PHOTOS[n % 2]).resize(size, Image.Resampling.BICUBIC) for n, size in enumerate(sizes[:count])]
    model = model.with_settings(mask_mode=MaskMode.parse(mode))
    torch.set_num_threads(1)
    alone = model.detect(pictures)
    for cores in (2, 3):
        torch.set_num_threads(cores)
        for one, other in zip(alone, model.detect(pictures), strict=True):
            assert other.score == pytest.approx(one.score, abs=1e-4)
            assert other.extent == one.extent
            both, either = int((one.mask & other.mask).sum()), int((one.mask | other.mask).sum())
            assert both >= 0.999 * either
            np.testing.assert_allclose(other.heatmap, one.heatmap, atol=1e-3)
