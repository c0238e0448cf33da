"""Which image of a failing batch is to blame?

A batch that fails is split in halves until the culprit stands alone; the others get their results. Memory that runs out
is nobody's fault: the batch is halved too, but a single image that does not fit is given back without a strike.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog
import torch

from screening.errors import Failure, FailureCode
from worker.defakerone.errors import DetectorError
from worker.outcomes import Failed, Released

logger = structlog.get_logger(__name__)

T = TypeVar("T")
R = TypeVar("R")

# What arithmetic on strange input raises. Anything else is a fault of ours that nobody foresaw: it ends the task, the
# leases run out, and each image of the batch is tried alone, as after a crash.
INFERENCE_ERRORS = (DetectorError, RuntimeError, ValueError, ArithmeticError, IndexError)


class BrokenDeviceError(Exception):
    """The accelerator's context is broken: every later call in this process would fail, whatever the image."""


def infer_each(infer: Callable[[Sequence[T]], Sequence[R]], batch: Sequence[T]) -> list[R | Failed | Released]:
    """Run a batch; one result an image, in order. Raises BrokenDeviceError."""
    error = _attempt(infer, batch)
    if not isinstance(error, Exception):
        return list(error)
    if len(batch) > 1:
        logger.warning("inference.split", images=len(batch), error=type(error).__name__, detail=str(error)[:200])
        middle = len(batch) // 2
        return [*infer_each(infer, batch[:middle]), *infer_each(infer, batch[middle:])]
    if _out_of_memory(error):
        return [Released("device_memory")]
    logger.error("inference.failed", exc_info=error)
    detail = f"The detector failed on this image ({type(error).__name__})."
    return [Failed(Failure(FailureCode.INFERENCE_FAILED, detail), strike=True)]


def _attempt(infer: Callable[[Sequence[T]], Sequence[R]], batch: Sequence[T]) -> Sequence[R] | Exception:
    """The results, or the error without its traceback, whose frames would keep the batch's tensors alive."""
    try:
        return infer(batch)
    except INFERENCE_ERRORS as error:
        if isinstance(error, torch.AcceleratorError) and not _out_of_memory(error):
            raise BrokenDeviceError(str(error)) from error
        caught = error.with_traceback(None)
    if _out_of_memory(caught) and torch.cuda.is_available():
        torch.cuda.empty_cache()
    return caught


def _out_of_memory(error: BaseException) -> bool:
    # The CPU's allocator says so in words only.
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
