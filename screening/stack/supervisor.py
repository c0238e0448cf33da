"""How do several processes run as one? Started in order, started again when one dies, stopped in reverse."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from screening.embedded.process import start, stop

logger = structlog.get_logger(__name__)

RESTART_AFTER = 1.0  # seconds; a process that dies at once must not spin
STOP_SECONDS = 40.0  # above the worker's own soft shutdown


@dataclass(slots=True)
class Child:
    """One command of ours, as a process."""

    name: str
    arguments: Sequence[str]
    process: subprocess.Popen[bytes]
    restarts: int = 0
    started: float = field(default_factory=time.monotonic)


class Supervisor:
    """Runs `assay` commands with this interpreter and one environment, logs in one folder."""

    def __init__(self, environment: Mapping[str, str], logs: Path) -> None:
        self._environment = {**os.environ, **environment}
        self._logs = logs
        self.children: list[Child] = []

    def start(self, name: str, *arguments: str, module: str = "screening") -> Child:
        """Start `assay ARGUMENTS`, or another module of ours, with its output in `<name>.log`."""
        command = ["-m", module, *arguments]
        child = Child(name, command, self._spawn(name, command))
        self.children.append(child)
        return child

    def _spawn(self, name: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        return start([sys.executable, *arguments], self.log(name), env=self._environment)

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self._logs / f"{name}.log"

    def revive(self) -> list[str]:
        """Start again whatever has died; returns the names."""
        dead = [c for c in self.children if c.process.poll() is not None and self._rested(c)]
        for child in dead:
            logger.warning("stack.restart", process=child.name, status=child.process.returncode)
            child.process = self._spawn(child.name, child.arguments)
            child.restarts += 1
            child.started = time.monotonic()
        return [child.name for child in dead]

    @staticmethod
    def _rested(child: Child) -> bool:
        return time.monotonic() - child.started > RESTART_AFTER

    def stop(self) -> None:
        """Ask all to end at once, so that their grace periods overlap; then wait for each, newest first."""
        for child in reversed(self.children):
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)
        for child in reversed(self.children):
            stop(child.process, signal.SIGTERM, STOP_SECONDS)
