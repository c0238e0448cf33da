"""What does one decoder subprocess do? It answers requests over a socket until its parent is gone.

A request is JSON with the limits, and a file descriptor of the image. The answer is JSON, and on success the pixels lie
in anonymous memory (memfd) that the two processes share. Such memory has no name: it lasts until the last process that
holds it has closed it or died, so nothing can be left behind, whoever is killed when.

    python -P -m worker.decoding.child SOCKET CANVAS ADDRESS_SPACE

The first two are descriptors; stdin is a pipe whose other end the parent keeps open.
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
from math import prod
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
F_SETSIG = 10  # linux/fcntl.h; Python 3.11 names it only where the headers that it was built with did
OWN_KILL_AFTER = 5.0  # seconds past the deadline; the parent kills first, if it lives


class Canvas:
    """The memory that pixels are written to, made by the parent and large enough for any image under the limits.

    It serves one image after the other: fresh memory for each would cost a page fault for every 4 kB, which together
    take longer than decoding a JPEG.
    """

    def __init__(self, descriptor: int) -> None:
        self._memory = np.frombuffer(mmap.mmap(descriptor, os.fstat(descriptor).st_size), np.uint8)
        os.close(descriptor)

    def allocate(self, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        """The front of the memory in this shape."""
        return self._memory[: prod(shape)].reshape(shape)


def main() -> None:
    """Serve until the parent closes its end."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    canvas = Canvas(int(sys.argv[2]))
    _confine(int(sys.argv[3]))
    _die_with_parent()
    _keep_codecs_quiet()
    connection.send(READY)
    while _serve(connection, canvas):
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


def _serve(connection: socket.socket, canvas: Canvas) -> bool:
    message, descriptors, _, _ = socket.recv_fds(connection, LARGEST_MESSAGE, 1)
    if not message:
        return False
    request = json.loads(message)
    signal.setitimer(signal.ITIMER_REAL, request["seconds"] + OWN_KILL_AFTER)
    try:
        with os.fdopen(descriptors[0], "rb") as file:
            answer = _describe(load_image(file, ImageLimits(**request["limits"]), canvas.allocate))
    except ImageError as error:
        answer = {"refused": CODES[error.code], "detail": _sentence(str(error))}
    connection.send(json.dumps(answer).encode())
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
