"""How is one decoder subprocess started, asked, killed and buried?"""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

import worker
from screening.errors import AssayError, Failure, FailureCode
from worker.decoding.canvas import SharedCanvas
from worker.decoding.child import LARGEST_MESSAGE, READY
from worker.defakerone.images import ImageLimits

START_SECONDS = 120.0  # importing numpy and Pillow takes 0.2 s; a machine that swaps may take long, which is no error
# A fresh process now and then, so that a codec that leaks or fragments its address space never fails an innocent image.
DECODES_A_LIFE = 1_000
LAST_WORDS_SECONDS = 2.0  # between the end of its socket and the end of a subprocess
PACKAGE_ROOT = Path(worker.__file__).parents[1]


class DecoderStartError(AssayError):
    """A decoder subprocess did not start. No image is at fault; its stderr, which is the worker's, says more."""


class DecodeRefusedError(AssayError):
    """An image was refused, or cost a decoder its life.

    `strike`: it may be the machine's fault, so trying again could end differently; otherwise the refusal is certain.
    """

    def __init__(self, code: FailureCode, detail: str, *, strike: bool = False) -> None:
        super().__init__(detail)
        self.failure = Failure(code, detail, retryable=strike)
        self.strike = strike


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image as it is seen: (height, width, 3) uint8 RGB, upright.

    `orientation` is the EXIF value that was applied (1: none); `images.upright` turns other arrays alike.
    """

    pixels: NDArray[np.uint8]
    format: str
    frames: int
    orientation: int
    reasons: list[str]

    @property
    def orientation_applied(self) -> bool:
        """Whether the stored pixel grid is not the upright one."""
        return self.orientation != 1


class Decoder:
    """One subprocess after the other, and the socket to it. For one thread at a time; the pool sees to that."""

    def __init__(self, address_space: int, max_pixels: int) -> None:
        self._address_space = address_space
        self._max_pixels = max_pixels
        self._canvas: SharedCanvas | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._decodes = 0

    @property
    def pid(self) -> int | None:
        """The subprocess's id; None where there is none."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the subprocess if there is none, without waiting for it. Raises DecoderStartError."""
        if self._process is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                canvas = SharedCanvas(self._max_pixels)
                with canvas.lent() as descriptor:
                    self._process = _spawn(theirs, descriptor, self._address_space)
            except OSError as error:
                ours.close()
                raise DecoderStartError(f"a decoder subprocess could not be started: {error}") from error
        self._socket, self._canvas, self._decodes = ours, canvas, 0

    def decode(self, file: BinaryIO, limits: ImageLimits, seconds: float) -> Decoded:
        """Decode one open file; raises DecodeRefusedError and DecoderStartError."""
        message = self._ask(file, {"limits": asdict(limits), "seconds": seconds})
        if not message:
            raise self._crashed()
        decoded = self._read(json.loads(message))
        if self._decodes >= DECODES_A_LIFE:
            self.stop()
        return decoded

    def _ask(self, file: BinaryIO, request: dict[str, Any]) -> bytes:
        """Send a request and await the answer, which is empty if the subprocess died over it.

        One that died before it read the request is no image's fault and is replaced. It shows as an error on sending,
        or as a connection reset: that is what a Unix socket says when it was closed with something still unread.
        """
        message = json.dumps(request).encode()
        for _ in range(2):
            connection = self._started()
            try:
                connection.settimeout(request["seconds"])
                socket.send_fds(connection, [message], [file.fileno()])
                answer = connection.recv(LARGEST_MESSAGE)
            except TimeoutError:
                self.stop()
                detail = f"Decoding took longer than {request['seconds']:g} seconds."
                raise DecodeRefusedError(FailureCode.DECODE_TIMEOUT, detail, strike=True) from None
            except ConnectionError:
                self.stop()
            else:
                self._decodes += 1
                return answer
        raise DecoderStartError("decoder subprocesses die before they can be asked")

    def _started(self) -> socket.socket:
        """The socket to a subprocess that is ready."""
        if self._process is not None and self._process.poll() is not None:
            self.stop()
        self.start()
        if self._socket is None:
            raise DecoderStartError("a decoder subprocess was not started")
        if self._decodes:
            return self._socket
        self._socket.settimeout(START_SECONDS)
        try:
            ready = self._socket.recv(LARGEST_MESSAGE) == READY
        except OSError:
            ready = False
        if not ready:
            raise DecoderStartError(f"a decoder subprocess ended with status {self.stop()} at its start")
        return self._socket

    def _crashed(self) -> DecodeRefusedError:
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):  # so that its own status is seen, and not our signal's
                self._process.wait(LAST_WORDS_SECONDS)
        status = self.stop()
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        return DecodeRefusedError(
            FailureCode.DECODE_CRASHED, f"The decoder ended with {how} while it read the image.", strike=True
        )

    def _read(self, answer: dict[str, Any]) -> Decoded:
        if answer.get("refused") == FailureCode.DECODE_MEMORY:
            self.stop()  # what is left of its address space may be in pieces
            raise DecodeRefusedError(
                FailureCode.DECODE_MEMORY, "Decoding needs more memory than the decoder is allowed.", strike=True
            )
        if "refused" in answer:
            raise DecodeRefusedError(FailureCode(answer["refused"]), answer["detail"])
        pixels = None if self._canvas is None else self._canvas.take(answer["shape"])
        if pixels is None:
            self.stop()
            raise DecodeRefusedError(FailureCode.DECODE_CRASHED, "The decoder's answer makes no sense.", strike=True)
        return Decoded(
            pixels=pixels,
            format=answer["format"],
            frames=answer["frames"],
            orientation=answer["orientation"],
            reasons=answer["reasons"],
        )

    def kill(self) -> None:
        """End the subprocess from any thread; the one that waits for its answer finds it crashed."""
        process = self._process
        if process is not None:
            self._reap(process)

    def stop(self) -> int:
        """End the subprocess if there is one, whatever it is doing, reap it, and return its status."""
        if self._process is None or self._socket is None or self._process.stdin is None:
            return 0
        self._socket.close()
        status = self._reap(self._process)
        self._process.stdin.close()
        self._process = self._socket = self._canvas = None
        return status

    @staticmethod
    def _reap(process: subprocess.Popen[bytes]) -> int:
        """Kill what still runs; what has died on its own keeps the status that says why."""
        if process.poll() is None:
            process.kill()
        return process.wait()


def _spawn(connection: socket.socket, canvas: int, address_space: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-P", "-m", "worker.decoding.child", *map(str, (connection.fileno(), canvas, address_space))],
        stdin=subprocess.PIPE,  # never written to: its end tells the child that this process is gone
        stdout=subprocess.DEVNULL,
        pass_fds=[connection.fileno(), canvas],
        env=_environment(),
        cwd="/",
        start_new_session=True,  # a Ctrl-C in the terminal is the worker's to handle
    )


def _environment() -> dict[str, str]:
    """Only what an import needs: no secrets, no threads of numpy's, large pages for the codecs' buffers."""
    inherited = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "LANG") if name in os.environ}
    ours = {"PYTHONPATH": str(PACKAGE_ROOT), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return inherited | ours | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
