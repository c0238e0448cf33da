"""What may a process never load? Asked in a fresh interpreter, where nothing else has loaded it."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "sam2")


@pytest.mark.parametrize(
    "module",
    ["worker.app", "worker.tasks.screen", "worker.tasks.deliver", "worker.tasks.purge", "worker.sweeper", "screening"],
)
def test_a_parent_an_io_worker_and_the_sweeper_load_no_torch(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "[]"
