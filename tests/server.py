"""How do tests run the API as it is served: a process of its own behind a socket?"""

import os
import socket
import subprocess
import sys
from pathlib import Path
from signal import SIGKILL, SIGTERM

import httpx

from screening.embedded.process import free_port, start, stop, wait_until
from screening.settings import Settings

ROOT = Path(__file__).parents[1]


class ApiServer:
    """`assay api` on a free port of the loopback."""

    def __init__(self, settings: Settings, folder: Path, *, workers: int = 1, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"api-{self.port}.log"
        self._workers = workers
        self._environment = {**_as_environment(settings), "ASSAY_PUBLIC_URL": self.url, **environment}
        self.key = ""  # of whoever the test speaks for
        self.known = ""  # an id that exists there
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that was started."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> "ApiServer":
        """Start, and wait until it answers."""
        command = [sys.executable, "-m", "screening", "api", "--port", str(self.port), "--workers", str(self._workers)]
        self._process = start(command, self.log, cwd=ROOT, env={**os.environ, **self._environment})
        wait_until(self._answers, self._process, self.log, seconds=60)
        return self

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/livez", timeout=2).is_success
        except httpx.TransportError:
            return False

    def stop(self) -> int:
        """SIGTERM, as an operator stops it; its exit status."""
        assert self._process is not None
        stop(self._process, SIGTERM)
        return self._process.returncode

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        stop(self._process, SIGKILL)

    def connect(self, seconds: float = 20) -> socket.socket:
        """A bare connection, for what a client library would not send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=seconds)


def _as_environment(settings: Settings) -> dict[str, str]:
    values = {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "BLOB_URL": settings.blob_url,
        "SECRET_KEYS": settings.secret_keys.get_secret_value(),
    }
    return {f"ASSAY_{name}": value for name, value in values.items()}
