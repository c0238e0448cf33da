"""What does one decoder subprocess do? It answers requests over a socket until its parent is gone.

A request is JSON with the limits, and a file descriptor of the image. The answer is JSON, and on success a descriptor
of anonymous memory (memfd) that holds the pixels. Such memory has no name: it lasts until the last process that holds
it has closed it or died, so nothing can be left behind, whoever is killed when.

    python -P -m worker.decoding.child SOCKET ADDRESS_SPACE     (stdin: a pipe whose other end the parent keeps open)
"""

import fcntl
import json
import logging
import mmap
import os
import resource
import signal
import socket
import sys
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.defakerone.errors import ImageError
from worker.defakerone.images import ImageLimits, LoadedImage, load_image

LARGEST_MESSAGE = 1 << 16
READY = b"ready"
# The loader's codes -> those that clients read (screening.errors.FailureCode).
CODES = {
    "unreadable": "undecodable",
    "too_many_bytes": "too_many_bytes",
    "unknown_format": "unsupported_format",
    "too_many_pixels": "too_many_pixels",
    "side_too_long": "too_many_pixels",
    "empty_image": "undecodable",
    "too_many_frames": "too_many_frames",
    "undecodable": "undecodable",
    "out_of_memory": "decode_memory",
}
# linux/fcntl.h; Python 3.11 names these only where the headers that it was built with did.
F_SETSIG = 10
F_ADD_SEALS, F_GET_SEALS = 1033, 1034
SEALS = 0x1 | 0x2 | 0x4 | 0x8  # seal, shrink, grow, write
OWN_KILL_AFTER = 5.0  # seconds past the deadline; the parent kills first, if it lives


class Canvas:
    """One picture's memory, shared with the parent by descriptor."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("assay-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._memory: mmap.mmap | None = None

    def allocate(self, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        """Pixels of this shape in the shared memory; MemoryError where the limit does not allow them."""
        size = shape[0] * shape[1] * shape[2]
        try:
            os.ftruncate(self.descriptor, size)
            self._memory = mmap.mmap(self.descriptor, size)
        except OSError as error:
            raise MemoryError from error
        return np.frombuffer(self._memory, np.uint8).reshape(shape)

    def seal(self) -> None:
        """Give up writing for good: what the parent reads can no longer change, shrink or grow."""
        if self._memory is not None:
            self._memory.close()
        fcntl.fcntl(self.descriptor, F_ADD_SEALS, SEALS)

    def close(self) -> None:
        """Drop this side's hold."""
        os.close(self.descriptor)


def main() -> None:
    """Serve until the parent closes its end."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    _confine(int(sys.argv[2]))
    _die_with_parent()
    _keep_codecs_quiet()
    connection.send(READY)
    while _serve(connection):
        pass


def _confine(address_space: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold a stranger's image
    warnings.simplefilter("ignore")  # of readers about metadata, which is nothing to fail an image for
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def _die_with_parent() -> None:
    """Have the kernel kill this process when the parent's end of stdin closes, even in the middle of a decode.

    PR_SET_PDEATHSIG would fire when the parent's *thread* that started us ends, and pool threads come and go.
    """
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)


def _keep_codecs_quiet() -> None:
    """Codecs print about damaged files; only Python's own tracebacks go to the log."""
    logging.disable()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    os.close(silence)


def _serve(connection: socket.socket) -> bool:
    message, descriptors, _, _ = socket.recv_fds(connection, LARGEST_MESSAGE, 1)
    if not message:
        return False
    request = json.loads(message)
    signal.setitimer(signal.ITIMER_REAL, request["seconds"] + OWN_KILL_AFTER)
    canvas = Canvas()
    try:
        with os.fdopen(descriptors[0], "rb") as file:
            answer = _describe(load_image(file, ImageLimits(**request["limits"]), canvas.allocate))
        canvas.seal()
        socket.send_fds(connection, [json.dumps(answer).encode()], [canvas.descriptor])
    except ImageError as error:
        connection.send(json.dumps({"refused": CODES[error.code], "detail": _sentence(str(error))}).encode())
    finally:
        canvas.close()
    signal.setitimer(signal.ITIMER_REAL, 0)
    return True


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:300].rstrip('.')}."


def _describe(loaded: LoadedImage) -> dict[str, Any]:
    return {
        "shape": loaded.pixels.shape,
        "format": loaded.format,
        "frames": loaded.frames,
        "orientation": loaded.orientation,
        "reasons": loaded.notes,
    }


if __name__ == "__main__":
    main()
