"""Several devices: two processes share each step, agree on the weights, and write one checkpoint."""

import os
import subprocess
import sys
from pathlib import Path

from tests.unit.training.conftest import manifest  # noqa: F401 - a fixture
from worker.defakerone.detector import DeFakerOne
from worker.defakerone.training.progress import read_events

ROOT = Path(__file__).parents[2]
CONFIG = """
name = "two-processes"
preset = "defakerone-tiny"
precision = "float32"
workers = 0
threads = 1
validation_pictures = 8

[[stage]]
name = "verdicts"
branch = "language"
source = "manifest"
parts = ["vision", "connector", "language", "head"]
steps = 2
batch = 4
rate = 1e-3
validate_every = 2

[[stage]]
name = "joint"
branch = "joint"
source = "manifest"
parts = ["projection", "grounding"]
lora_rank = 4
steps = 2
batch = 4
rate = 1e-3
validate_every = 2
"""


def test_two_processes_train_as_one_run(manifest: Path, tmp_path: Path) -> None:  # noqa: F811
    config = tmp_path / "two.toml"
    config.write_text(CONFIG)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = ["-m", "worker.commands.train", str(config), "--manifest", str(manifest), "--out", str(tmp_path / "run")]
    tokenizer = ["--tokenizer", str(ROOT / "tests" / "fixtures" / "defakerone" / "checkpoint")]
    place = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*launcher, *command, *tokenizer], env={**os.environ, **place}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    validated = [event for event in read_events(tmp_path / "run" / "log.jsonl") if "scores" in event]
    assert [event["pictures"] for event in validated] == [16, 32]  # two steps of four pictures on two processes, twice
    assert DeFakerOne.from_pretrained(tmp_path / "run" / "checkpoint").metadata.name == "two-processes"
