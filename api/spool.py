"""Where does an upload lie while it arrives? In an unnamed file, counted and hashed as it is written."""

import hashlib
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from starlette.concurrency import run_in_threadpool

from api.problems import TOO_LARGE, Problem

FLUSH = 256 * 1024  # bytes gathered before a thread hashes and writes them: one hop for each would cost more than both


class Spool:
    """One file on its way in; memory holds at most `FLUSH` bytes and one network chunk of it."""

    def __init__(self, limit: int, folder: Path | None) -> None:
        self.limit = limit
        self.size = 0
        # No name, so that no crash leaves it behind.
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__
        self._hash = hashlib.sha256()
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def add(self, data: bytes) -> None:
        """Take bytes into the buffer. Raises Problem 413 with the first byte too many."""
        self.size += len(data)
        if self.size > self.limit:
            raise Problem(TOO_LARGE, f"An image may have at most {self.limit} bytes.")
        self._buffer += data

    async def flush(self, *, all: bool = False) -> None:
        """Write what has gathered, if it is enough or `all` is asked for."""
        if self._buffer and (all or len(self._buffer) >= FLUSH):
            data, self._buffer = self._buffer, bytearray()
            await run_in_threadpool(self._write, data)

    def _write(self, data: bytearray) -> None:
        self._hash.update(data)
        self.file.write(data)

    @property
    def sha256(self) -> bytes:
        """The digest of what was flushed."""
        return self._hash.digest()
