"""A failing batch: the culprit fails alone, its neighbours get their results, and memory is nobody's fault."""

from collections.abc import Sequence

import pytest
import torch

from screening.errors import FailureCode
from worker.isolation import BrokenDeviceError, infer_each
from worker.outcomes import Failed, Released


def doubled(batch: Sequence[int]) -> list[int]:
    return [2 * item for item in batch]


@pytest.mark.parametrize("culprits", [{0}, {7}, {3, 4}, {0, 1, 2, 3, 4, 5, 6, 7}])
def test_the_culprits_fail_and_the_others_get_their_results_in_order(culprits: set[int]) -> None:
    def infer(batch: Sequence[int]) -> list[int]:
        if culprits & set(batch):
            raise RuntimeError("shapes do not match")
        return doubled(batch)

    results = infer_each(infer, range(8))
    for item, result in enumerate(results):
        if item in culprits:
            assert isinstance(result, Failed)
            assert (result.failure.code, result.strike) == (FailureCode.INFERENCE_FAILED, True)
            assert "shapes" not in result.failure.detail
        else:
            assert result == 2 * item


def test_a_batch_that_does_not_fit_into_memory_is_halved_until_it_does() -> None:
    sizes = []

    def infer(batch: Sequence[int]) -> list[int]:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return doubled(batch)

    assert infer_each(infer, range(8)) == doubled(range(8))
    assert sizes == [8, 4, 2, 2, 4, 2, 2]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: not enough memory")]
)
def test_an_image_that_does_not_fit_alone_is_given_back_without_a_strike(error: RuntimeError) -> None:
    def infer(batch: Sequence[int]) -> list[int]:
        raise error

    assert infer_each(infer, [1]) == [Released("device_memory")]


def test_a_broken_device_is_no_images_fault() -> None:
    def infer(batch: Sequence[int]) -> list[int]:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    with pytest.raises(BrokenDeviceError):
        infer_each(infer, [1, 2])


def test_an_error_that_nobody_foresaw_is_not_blamed_on_an_image() -> None:
    def infer(batch: Sequence[int]) -> list[int]:
        raise KeyError("a bug of ours")

    with pytest.raises(KeyError):
        infer_each(infer, [1, 2])
