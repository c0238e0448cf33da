"""Where do a decoder's pixels lie until this process has its own copy? In anonymous memory of a fixed size."""

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

# linux/fcntl.h; Python 3.11 names them only where the headers that it was built with did.
F_ADD_SEALS = 1033
SIZE_SEALS = 0x1 | 0x2 | 0x4  # no further seals, no shrinking, no growing
# More than this is handed back to the system after each image, so that idle decoders do not hold on to the largest.
KEPT_BYTES = 64 * 1024 * 1024


class SharedCanvas:
    """Memory for one image of up to `max_pixels`, shared with one subprocess. Untouched parts of it cost nothing.

    The subprocess can neither shrink nor grow it, and what it writes after its answer reaches nobody: `take` copies,
    which costs a tenth of what decoding does.
    """

    def __init__(self, max_pixels: int) -> None:
        size = 3 * max_pixels
        self._descriptor = os.memfd_create("assay-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self._descriptor, size)
        fcntl.fcntl(self._descriptor, F_ADD_SEALS, SIZE_SEALS)
        self._memory = mmap.mmap(self._descriptor, size)

    @contextmanager
    def lent(self) -> Iterator[int]:
        """The descriptor, for as long as a subprocess needs to inherit it; the memory stays."""
        try:
            yield self._descriptor
        finally:
            os.close(self._descriptor)

    def take(self, shape: Any) -> NDArray[np.uint8] | None:
        """A copy of the (height, width, 3) pixels at the front; None where the shape, which is hearsay, cannot be."""
        if not (isinstance(shape, list) and len(shape) == 3 and all(isinstance(n, int) and n > 0 for n in shape)):
            return None
        size = prod(shape)
        if shape[2] != 3 or size > len(self._memory):
            return None
        pixels = np.frombuffer(self._memory, np.uint8, size).reshape(shape).copy()
        if size > KEPT_BYTES:
            self._memory.madvise(mmap.MADV_REMOVE, KEPT_BYTES)
        return pixels
