"""Where does the embedded stack keep its things? In one folder that belongs to whoever started it."""

import fcntl
import hashlib
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from cryptography.fernet import Fernet

from screening.errors import AssayError

ROOT_DATA = Path("/var/lib/assay")


class DataDirectoryError(AssayError):
    """The data directory cannot be written to."""


class StackAlreadyRunningError(AssayError):
    """Another `assay up` holds this data directory."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the stack's servers ask of each other; made once, kept with mode 0600."""

    postgres: str
    redis: str
    key: str

    @classmethod
    def new(cls) -> "Secrets":
        """Fresh random secrets."""
        return cls(secrets.token_urlsafe(24), secrets.token_urlsafe(24), Fernet.generate_key().decode())


class Home:
    """The data directory."""

    def __init__(self, folder: Path, *, chosen: bool) -> None:
        self.folder = folder.resolve()
        self._chosen = chosen
        self._lock: IO[str] | None = None

    def claim(self) -> None:
        """Create the folder and hold it until this process ends, however it ends."""
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / "lock").open("w")
        except OSError as error:
            raise DataDirectoryError(
                f"Assay keeps its data in {self.folder}, which cannot be written to ({error.strerror}): give a folder "
                "of your own as --data-dir."
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackAlreadyRunningError(
                f"Assay already runs from {self.folder}: stop it with Ctrl-C there, or give another --data-dir."
            ) from error

    @property
    def logs(self) -> Path:
        """One file a process."""
        return self.folder / "logs"

    @property
    def postgres(self) -> Path:
        """The database's folder.

        As root the server runs as an ordinary user, who could not enter a checkout below /root; unless a directory was
        chosen, it lies in /var/lib/assay then, one folder a checkout.
        """
        if os.geteuid() != 0 or self._chosen:
            return self.folder / "postgres"
        return ROOT_DATA / hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16] / "postgres"

    @property
    def blobs(self) -> Path:
        """The blob store's folder."""
        return self.folder / "blobs"

    @property
    def demo(self) -> Path:
        """Where the demo credentials are."""
        return self.folder / "demo.json"

    def secrets(self) -> Secrets:
        """The kept secrets, made on first use."""
        path = self.folder / "secrets.json"
        if not path.exists():
            write_private(path, asdict(Secrets.new()))
        return Secrets(**json.loads(path.read_text()))


def write_private(path: Path, content: dict[str, Any]) -> None:
    """Write JSON that only its owner may read, never even for a moment readable by others."""
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(content, file, indent=2)
    partial.replace(path)
