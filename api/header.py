"""How does intake read headers: how many at once, and what is a client told of one that is refused?"""

import asyncio
from typing import BinaryIO

from api.problems import TOO_MANY_PIXELS, UNDECODABLE_HEADER, UNSUPPORTED_FORMAT, Problem
from screening import header
from screening.errors import FailureCode
from screening.header import Header, HeaderRefusedError
from screening.settings import Settings

KINDS = {
    FailureCode.UNDECODABLE: UNDECODABLE_HEADER,
    FailureCode.UNSUPPORTED_FORMAT: UNSUPPORTED_FORMAT,
    FailureCode.TOO_MANY_PIXELS: TOO_MANY_PIXELS,
}


class Places:
    """How many headers are read at once: few, and one at a time where the whole file goes through memory."""

    def __init__(self) -> None:
        self._some = asyncio.Semaphore(4)
        self._one = asyncio.Semaphore(1)

    def for_(self, file: BinaryIO) -> asyncio.Semaphore:
        """The place to hold while this file's header is read."""
        return self._one if header.reads_whole(file) else self._some


def read(file: BinaryIO, size: int, settings: Settings) -> Header:
    """Read the header of a file of `size` bytes.

    Raises Problem: 400 for a header that cannot be read, 415 for other formats, 422 for too many pixels.
    """
    try:
        return header.read(file, size, settings)
    except HeaderRefusedError as error:
        raise Problem(KINDS[error.failure.code], error.failure.detail) from None
