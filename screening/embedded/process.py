"""How is a server run as a child that never outlives its parent?"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from screening.errors import AssayError

PR_SET_PDEATHSIG = 1


class ServerDidNotStartError(AssayError):
    """A server ended or stayed silent at start; the message names its log."""


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listening(port: int) -> bool:
    """Whether something accepts connections on the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _die_with_parent() -> None:
    """In the child, before exec: own session, so that Ctrl-C reaches only us; SIGKILL when we vanish."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(command: Sequence[str], log: Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start a server with its output in a log file."""
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own command line
            command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_parent, **options,
        )  # fmt: skip


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float = 30) -> None:
    """Return once `ready()` holds; raise ServerDidNotStartError where the process ends or time runs out."""
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise ServerDidNotStartError(f"{process.args!r} did not start; its log {log} ends:\n{tail}")
        time.sleep(0.02)


def stop(process: subprocess.Popen[bytes], sig: signal.Signals, seconds: float = 20) -> None:
    """Signal, wait, and kill what does not end in time."""
    if process.poll() is None:
        process.send_signal(sig)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
