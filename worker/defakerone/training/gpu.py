"""How is the bundled model trained on a borrowed accelerator, in one call of twenty minutes?

    python -m worker.defakerone.training.gpu pack PHOTOS PACKED --mib 45       # here: photos that fit a small transfer
    python -m worker.defakerone.training.gpu run PACKED OUT                    # there: the whole recipe, by the clock

`run` trains `small-gpu` (each stage ends by its own minutes), checkpoints every two minutes, forges on every core,
and leaves in OUT a checkpoint in pieces of at most 16 MB, the log and the curves: few files, to be fetched as they
are. `--start` goes on from a checkpoint that an earlier call left.
"""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from worker.defakerone.manifest import Entry, read_manifest, write_manifest

LATER = "masks,masks-whole,verdicts,verdicts-whole,joint"  # what is left for a model that knows its traces


@click.group()
def main() -> None:
    """Train the bundled model on a borrowed accelerator."""


@main.command()
@click.argument("photos", type=click.Path(exists=True, path_type=Path))
@click.argument("packed", type=click.Path(path_type=Path))
@click.option("--mib", type=float, default=45.0, show_default=True, help="Limit of the whole folder.")
def pack(photos: Path, packed: Path, mib: float) -> None:
    """Copy the photos that fit, unchanged: the smallest of each camera first, so that every camera stays."""
    packed.mkdir(parents=True, exist_ok=True)
    room, kept = mib * 2**20, []
    for entry in _by_turns([entry for entry in read_manifest(photos) if not entry.is_fake]):
        size = entry.image_path.stat().st_size
        if size <= room:
            room -= size
            kept.append(_copy(entry, packed))
    write_manifest(packed / "manifest.jsonl", kept)
    click.echo(f"{len(kept)} photos, {mib - room / 2**20:.1f} MiB")


def _by_turns(entries: list[Entry]) -> list[Entry]:
    """Order by how many of its camera come before, then by size."""
    seen: dict[str, int] = {}
    ranked = []
    for entry in sorted(entries, key=lambda entry: entry.image_path.stat().st_size):
        camera = f"{entry.domain} {entry.extra.get('camera_model') or entry.source}"
        seen[camera] = seen.get(camera, 0) + 1
        ranked.append((seen[camera], entry.image_path.stat().st_size, entry.id, entry))
    return [entry for *_, entry in sorted(ranked)]


def _copy(entry: Entry, packed: Path) -> Entry:
    name = f"{entry.id}{entry.image_path.suffix}"
    shutil.copyfile(entry.image_path, packed / name)
    extra = dict(entry.extra)
    if extra.get("ocr"):
        shutil.copyfile(entry.root / extra["ocr"], packed / f"{entry.id}.json")
        extra["ocr"] = f"{entry.id}.json"
    return replace(entry, image=name, root=packed, extra=extra)


@main.command()
@click.argument("photos", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--start", type=click.Path(exists=True, path_type=Path), help="Go on from this checkpoint.")
@click.option("--tokenizer", type=click.Path(exists=True, path_type=Path), help="For random weights.")
@click.option("--scratch", type=click.Path(path_type=Path), default=Path("/tmp/assay-run"), show_default=True)  # noqa: S108
@click.option("--config", default="small-gpu", show_default=True)
@click.option("--share", type=float, default=1.0, show_default=True, help="Of each stage's minutes.")
def run(
    photos: Path, out: Path, start: Path | None, tokenizer: Path | None, scratch: Path, config: str, share: float
) -> None:
    """Train by the clock and leave checkpoint, log and curves in OUT."""
    from worker.defakerone.training.settings import choose_stages, read_run
    from worker.defakerone.training.trainer import Trainer

    options: dict[str, Any] = {"photos": photos, "cache": scratch / "pyramids", "start": start, "tokenizer": tokenizer}
    if start is not None:
        options |= {"preset": "", "high_pass_start": False}
    settings = read_run(config, options)
    stages = settings.stages if start is None else choose_stages(settings, LATER).stages
    stages = tuple(replace(stage, minutes=stage.minutes * share) for stage in stages)
    folder = scratch / "run"
    workers = max(1, (os.cpu_count() or 2) - 2)
    settings = replace(settings, stages=stages, workers=workers, save_minutes=2.0)
    checkpoint = Trainer(settings, folder).train()
    shutil.copytree(checkpoint, out / "checkpoint", dirs_exist_ok=True)
    for name in ("log.jsonl", "curves.png"):
        shutil.copyfile(folder / name, out / name)
    click.echo(json.dumps({"checkpoint": str(out / "checkpoint")}))


if __name__ == "__main__":
    main()
