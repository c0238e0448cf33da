"""A training that is killed leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

CONFIG = """
name = "defakerone-tiny"
preset = "defakerone-tiny"
workers = 1
threads = 1
[recipe]
largest = 128
[[stage]]
name = "masks"
branch = "mask"
parts = ["grounding"]
steps = 100000
batch = 2
"""
DEADLINE = 60.0


def _marked(mark: str) -> set[int]:
    """Processes whose environment holds a mark, the ones that ended but for their parent's look left out."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            dead = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
            if not dead and mark.encode() in (folder / "environ").read_bytes():
                found.add(int(folder.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def _wait_for(count: range, mark: str) -> set[int]:
    until = time.monotonic() + DEADLINE
    while len(found := _marked(mark)) not in count:
        assert time.monotonic() < until, f"{len(found)} processes: {found}"
        time.sleep(0.1)
    return found


def test_what_draws_pictures_ends_with_the_training_that_is_killed(photos: Path, tmp_path: Path) -> None:
    config, mark = tmp_path / "long.toml", f"ASSAY_TEST_MARK={tmp_path}"
    config.write_text(CONFIG, encoding="utf-8")
    call = [sys.executable, "-m", "worker.commands.train", str(config)]
    call += ["--photos", str(photos), "--out", str(tmp_path / "run"), "--cache", str(tmp_path / "cache")]
    training = subprocess.Popen(call, env={**os.environ, "ASSAY_TEST_MARK": str(tmp_path)})
    try:
        _wait_for(range(4, 9), mark)  # itself, the fork server, its resource tracker, the process that draws
        training.send_signal(signal.SIGKILL)
        training.wait()
        _wait_for(range(1), mark)
    finally:
        for process in _marked(mark):
            os.kill(process, signal.SIGKILL)
