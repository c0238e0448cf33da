"""How do threads share a few decoder subprocesses, and what replaces one that was killed?"""

import os
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self

import structlog

from screening.errors import AssayError, FailureCode
from screening.settings import Settings
from worker.decoding.decoder import Decoded, Decoder, DecodeRefusedError, DecoderStartError
from worker.defakerone.images import ImageLimits

__all__ = ["DecodeRefusedError", "Decoded", "DecoderClosedError", "DecoderPool", "DecoderStartError"]

log = structlog.get_logger(__name__)


class DecoderClosedError(AssayError):
    """The pool was closed while, or before, something was to be decoded."""


class DecoderPool:
    """`settings.decoders` subprocesses. Thread-safe; a call waits for a free one, outside of the image's own deadline.

    The subprocesses start at once and in the background. Use it as a context manager, or call `close`. It may be made
    in a prefork child (they may not have `multiprocessing` children), but must not be carried across a fork.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits = ImageLimits(settings.max_bytes, settings.max_pixels, settings.max_side, settings.max_frames)
        self._closed = False
        self._decoders = [Decoder(settings.decode_memory, settings.max_pixels) for _ in range(settings.decoders)]
        self._idle: SimpleQueue[Decoder | None] = SimpleQueue()
        for decoder in self._decoders:
            decoder.start()
            self._idle.put(decoder)

    def decode(self, data: bytes | Path) -> Decoded:
        """Decode the first frame of an image into upright RGB.

        Raises DecodeRefusedError (the image's own fault, with the Failure to record), DecoderStartError (the
        machine's), DecoderClosedError, or OSError where a path cannot be read.
        """
        with _as_file(data) as file:
            self._check_size(os.fstat(file.fileno()).st_size)
            decoder = self._take()
            try:
                return decoder.decode(file, self._limits, self._settings.decode_seconds)
            except (DecodeRefusedError, DecoderStartError):
                if self._closed:  # it was `close` that killed the decoder, not the image
                    raise DecoderClosedError("the decoder pool was closed") from None
                raise
            finally:
                self._give(decoder)

    @property
    def pids(self) -> list[int]:
        """The subprocesses' ids."""
        return [decoder.pid for decoder in self._decoders if decoder.pid is not None]

    def close(self) -> None:
        """Kill every subprocess, also those at work, whose callers get a DecoderClosedError. Idempotent."""
        self._closed = True
        for decoder in self._decoders:
            decoder.kill()
        self._bury_idle()

    def _check_size(self, size: int) -> None:
        if size > self._settings.max_bytes:
            detail = f"The file has {size} bytes; the limit is {self._settings.max_bytes}."
            raise DecodeRefusedError(FailureCode.TOO_MANY_BYTES, detail)

    def _take(self) -> Decoder:
        decoder = None if self._closed else self._idle.get()
        if decoder is None:
            self._idle.put(None)  # wake the next who waits
            raise DecoderClosedError("the decoder pool is closed")
        return decoder

    def _give(self, decoder: Decoder) -> None:
        """Hand a decoder back with its next subprocess, if it lost one, on the way: others need not wait for it."""
        try:
            if not self._closed:
                decoder.start()
        except DecoderStartError:
            log.warning("decoder.start_failed", exc_info=True)  # whoever takes it next tries again, and is told
        finally:
            self._idle.put(decoder)
        if self._closed:
            self._bury_idle()

    def _bury_idle(self) -> None:
        """Reap what lies idle. Whoever holds a decoder now calls this when done with it, so none is missed."""
        with suppress(Empty):
            while True:
                decoder = self._idle.get_nowait()
                if decoder is not None:
                    decoder.stop()
        self._idle.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _as_file(data: bytes | Path) -> BufferedReader:
    """Something with a descriptor to pass on: the opened path, or anonymous memory holding the bytes."""
    if isinstance(data, Path):
        return data.open("rb")
    descriptor = os.memfd_create("assay-image", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.fdopen(descriptor, "rb")
