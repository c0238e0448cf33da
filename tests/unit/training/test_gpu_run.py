"""The whole recipe in one call: both branches side by side, joined, and trained together."""

import json
from pathlib import Path

from click.testing import CliRunner

from worker.defakerone import DeFakerOne
from worker.defakerone.training import gpu

HEAD = """
name = "defakerone-tiny"
preset = "defakerone-tiny"
high_pass_start = true
threads = 1
validation_pictures = 4
[recipe]
largest = 128
"""
STAGE = """
[[stage]]
name = "{name}"
branch = "{branch}"
source = "{source}"
parts = [{parts}]
steps = 2
batch = 4
minutes = 1.0
lambda_auxiliary = 0.5
validate_every = 2
"""
PARTS = {"mask": '"grounding"', "language": '"vision", "connector", "language", "head"', "joint": '"projection"'}


def _hold_back(manifest: Path) -> None:
    """Put two of the photos into the validation split."""
    rows = [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]
    for row in rows:
        row["split"] = "validation" if row["id"] in ("p4", "p5") else "train"
    manifest.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")


def test_one_call_trains_both_branches_joins_them_and_leaves_a_checkpoint(photos: Path, tmp_path: Path) -> None:
    stages = [
        STAGE.format(
            name=name, branch=branch, parts=PARTS[branch], source="traces" if "traces" in name else "forgeries"
        )
        for branch, names in gpu.BRANCHES.items()
        for name in names
    ]
    _hold_back(photos / "manifest.jsonl")
    config, out = tmp_path / "short.toml", tmp_path / "out"
    config.write_text(HEAD + "".join(stages), encoding="utf-8")
    call = ["run", str(photos), str(out), "--config", str(config), "--scratch", str(tmp_path / "scratch")]
    done = CliRunner().invoke(gpu.main, call)
    logs = "\n".join(path.read_text("utf-8") for path in sorted((tmp_path / "scratch").glob("*.txt")))
    assert done.exit_code == 0, f"{done.output}\n{logs}"
    assert {path.name for path in out.iterdir()} == {
        "mask.safetensors",
        "language.safetensors",
        "log.jsonl",
        "checkpoint",
    }
    assert DeFakerOne.from_pretrained(out / "checkpoint").metadata.training["pictures"] == 8
    logged = (out / "log.jsonl").read_text("utf-8")
    assert all(f'"stage": "{name}"' in logged for names in gpu.BRANCHES.values() for name in names)
