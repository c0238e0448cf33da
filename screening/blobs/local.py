"""How do blobs lie in a folder? As files under their keys, written beside and renamed into place."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from screening.errors import BlobNotFoundError, BlobStoreError

TRIES = 100
PARTIAL = ".partial-"  # a file that is still being written; never a blob


class LocalStore:
    """Blobs as files below a root folder, which is created on first use."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if not key or any(part in ("", ".", "..") or part.startswith(PARTIAL) or "\0" in part for part in parts):
            raise BlobStoreError(f"not a blob key: {key!r}")
        return self.root.joinpath(*parts)

    def put(self, key: str, data: bytes | BinaryIO, content_type: str = "application/octet-stream") -> None:
        """Write beside the target, flush to disk, rename: a crash leaves the old blob or the new one.

        The folders are flushed too: a row that was committed must not outlive the name of its bytes.
        """
        target = self._path(key)
        partial = target.with_name(f"{PARTIAL}{uuid4().hex}")
        try:
            with _create(partial) as file:
                file.write(data) if isinstance(data, bytes) else shutil.copyfileobj(data, file, 1 << 20)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
            _flush_folder(target.parent)
        except OSError as error:
            with suppress(OSError):  # where the folder itself is the trouble, removing fails as writing did
                partial.unlink(missing_ok=True)
            raise BlobStoreError(f"could not write {key}: {error.strerror}") from error

    def get(self, key: str) -> bytes:
        """The whole file."""
        with self._open(key) as file:
            return file.read()

    def stream(self, key: str, chunk: int = 65536) -> Iterator[bytes]:
        """The file in chunks; it is opened now, so that a missing one is known before an answer has begun."""
        file = self._open(key)

        def chunks() -> Iterator[bytes]:
            with file:
                while data := file.read(chunk):
                    yield data

        return chunks()

    def _open(self, key: str) -> BinaryIO:
        try:
            return self._path(key).open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise BlobNotFoundError(key) from error
        except OSError as error:
            raise BlobStoreError(f"could not read {key}: {error.strerror}") from error

    def exists(self, key: str) -> bool:
        """Whether the file is there."""
        return self._path(key).is_file()

    def delete(self, keys: Iterable[str]) -> None:
        """Unlink, and drop folders that became empty."""
        for key in keys:
            path = self._path(key)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise BlobStoreError(f"could not delete {key}: {error.strerror}") from error
            self._drop_empty(path.parent)

    def _drop_empty(self, folder: Path) -> None:
        while folder != self.root and self.root in folder.parents:
            try:
                folder.rmdir()
            except OSError:  # not empty, or already gone: either way there is nothing to tidy
                return
            folder = folder.parent

    def keys(self, prefix: str) -> Iterator[str]:
        """Walk the deepest folder that the prefix names in full."""
        start = self.root / prefix.rpartition("/")[0]
        for folder, _, names in os.walk(start):
            for name in names:
                key = Path(folder, name).relative_to(self.root).as_posix()
                if key.startswith(prefix) and not name.startswith(PARTIAL):
                    yield key

    def signed_url(self, key: str, seconds: int) -> str | None:
        """Files have no address of their own; the API streams them."""
        return None

    def check(self) -> None:
        """Write and remove a probe."""
        key = f"probe/{uuid4().hex}"
        self.put(key, b"")
        self.delete([key])


def _create(partial: Path) -> BinaryIO:
    """Open a new file, with its folders; a concurrent `delete` may just be tidying those away, hence the tries."""
    for _ in range(TRIES):
        # mkdir says that a folder exists where another thread made it and a third has just tidied it away.
        with suppress(FileNotFoundError, FileExistsError):
            missing = [folder for folder in partial.parents if not folder.exists()]
            partial.parent.mkdir(parents=True, exist_ok=True)
            for folder in missing:
                _flush_folder(folder.parent)
            return partial.open("xb")
    return partial.open("xb")


def _flush_folder(folder: Path) -> None:
    """Bring a folder's names to the disk; one that is gone has none to keep."""
    with suppress(FileNotFoundError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
