"""How is a file written so that nobody ever sees half of it?

The bytes go to a temporary file in the same folder, which takes the place of the old one only when all of them are on
disk. A full disk, a kill or an exception leaves what was there before.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 text file that becomes `path` when the block ends well; raises OSError with that file's name."""
    with _temporary_beside(path) as temporary:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def replace_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` as a whole; raises OSError with that file's name."""
    with _temporary_beside(path) as temporary:
        temporary.write_bytes(data)
        temporary.replace(path)


@contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        temporary.chmod(0o644)
        yield temporary
    except OSError as error:
        if error.filename is None:  # a failed write does not know its file
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
