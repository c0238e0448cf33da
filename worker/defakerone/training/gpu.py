"""How is the bundled model trained on a borrowed accelerator, in one call of some ten minutes?

    python -m worker.defakerone.training.gpu pack PHOTOS PACKED --mib 38       # here: photos that fit a small transfer
    python -m worker.defakerone.training.gpu run PACKED OUT                    # there: the whole recipe, by the clock

The two branches share nothing that is trained, so they learn side by side, each in a process of its own that draws
its own forgeries: one step of so small a network leaves most of an accelerator idle. Then they are joined, and learn
together under [SEG]. `run` ends by the minutes of `small-gpu` and copies each branch's best weights to OUT as it goes:
few files, to be fetched as they are. A call that is cut off goes on where it was when it is given again.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from PIL import Image

from worker.defakerone.manifest import Entry, read_manifest, write_manifest
from worker.defakerone.training.forgery.photos import index_photo, split_of

BRANCHES = {
    "mask": ("traces-mask", "masks-whole"),
    "language": ("traces-language", "verdicts", "verdicts-whole"),
    "joint": ("joint",),
}
SHARES = {"jpeg": 0.66, "lossless": 0.14, "document": 0.16, "validation": 0.04}
"""Of the packed megabytes: photos with a compression history, without one, scans, and some to validate on."""
COPY_SECONDS = 5.0


@click.group()
def main() -> None:
    """Train the bundled model on a borrowed accelerator."""


@main.command()
@click.argument("photos", type=click.Path(exists=True, path_type=Path))
@click.argument("packed", type=click.Path(path_type=Path))
@click.option("--mib", type=float, default=38.0, show_default=True, help="Limit of the whole folder.")
@click.option("--megapixels", type=float, default=1.4, show_default=True, help="Larger JPEG photos are cropped to it.")
def pack(photos: Path, packed: Path, mib: float, megapixels: float) -> None:
    """Copy as many photos as fit, each camera's smallest first.

    Crops are cut at native resolution by jpegtran, without compressing anew, where it is installed; PNG files become
    lossless WebP.
    """
    packed.mkdir(parents=True, exist_ok=True)
    entries = [entry for entry in read_manifest(photos) if not entry.is_fake]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        written = list(pool.map(lambda entry: _write(entry, packed, megapixels), entries))
    kept = list(_that_fit(written, mib * 2**20))
    for entry in written:
        if entry not in kept:
            for name in filter(None, (entry.image, entry.extra.get("ocr"))):
                (packed / name).unlink()
    write_manifest(packed / "manifest.jsonl", kept)
    click.echo(f"{len(kept)} photos, {sum(entry.image_path.stat().st_size for entry in kept) / 2**20:.1f} MiB")


def _that_fit(entries: list[Entry], room: float) -> Iterator[Entry]:
    """Choose each kind's share: by how many of its camera come before, then by size."""
    left = {kind: share * room for kind, share in SHARES.items()}
    for entry in _by_turns(entries):
        size = entry.image_path.stat().st_size
        if size <= left[_kind(entry)]:
            left[_kind(entry)] -= size
            yield entry


def _kind(entry: Entry) -> str:
    if split_of(entry) == "validation":
        return "validation"
    if entry.domain == "document":
        return "document"
    return "lossless" if entry.image_path.suffix == ".webp" else "jpeg"


def _by_turns(entries: list[Entry]) -> list[Entry]:
    seen: dict[str, int] = {}
    ranked = []
    for entry in sorted(entries, key=lambda entry: entry.image_path.stat().st_size):
        camera = f"{entry.domain} {entry.extra.get('camera_model') or entry.source}"
        seen[camera] = seen.get(camera, 0) + 1
        ranked.append((seen[camera], entry.image_path.stat().st_size, entry.id, entry))
    return [entry for *_, entry in sorted(ranked)]


def _write(entry: Entry, packed: Path, megapixels: float) -> Entry:
    """Write one photo, cropped or stored anew without loss where that is smaller."""
    suffix = ".webp" if entry.image_path.suffix == ".png" else entry.image_path.suffix
    target = packed / f"{entry.id}{suffix}"
    if suffix == ".webp":
        _store_webp(entry.image_path, target)
    elif entry.domain == "document" or not crop_jpeg(entry.image_path, target, megapixels * 1e6):
        shutil.copyfile(entry.image_path, target)
    extra: dict[str, Any] = dict(entry.extra)
    if extra.get("ocr"):
        shutil.copyfile(entry.root / extra["ocr"], packed / f"{entry.id}.json")
        extra["ocr"] = f"{entry.id}.json"
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    width, height = _size(target)
    return replace(entry, image=target.name, root=packed, extra=extra, sha256=digest, width=width, height=height)


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def _store_webp(source: Path, target: Path) -> None:
    with Image.open(source) as image:
        image.convert("RGB").save(target, "WEBP", lossless=True, quality=100, method=4)


def crop_jpeg(source: Path, target: Path, pixels: float) -> bool:
    """Cut the middle of a large JPEG along its blocks; False where it is small or the tool is not there."""
    width, height = _size(source)
    scale = (pixels / (width * height)) ** 0.5
    tool = shutil.which("jpegtran")
    if scale > 0.9 or tool is None:
        return False
    across, down = int(width * scale) // 16 * 16, int(height * scale) // 16 * 16
    left, top = (width - across) // 32 * 16, (height - down) // 32 * 16
    crop = [tool, "-crop", f"{across}x{down}+{left}+{top}", "-copy", "all", "-outfile", str(target), str(source)]
    return subprocess.run(crop, check=False, capture_output=True).returncode == 0  # noqa: S603 - our own arguments


@main.command()
@click.argument("photos", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--start-mask", type=click.Path(exists=True, path_type=Path), help="Go on from this mask branch.")
@click.option("--start-language", type=click.Path(exists=True, path_type=Path), help="Go on from this language side.")
@click.option("--scratch", type=click.Path(path_type=Path), default=Path("/tmp/assay-run"), show_default=True)  # noqa: S108
@click.option("--config", default="small-gpu", show_default=True)
@click.option("--share", type=float, default=1.0, show_default=True, help="Of each stage's minutes.")
def run(
    photos: Path,
    out: Path,
    start_mask: Path | None,
    start_language: Path | None,
    scratch: Path,
    config: str,
    share: float,
) -> None:
    """Train both branches by the clock, join them, and leave the checkpoint and the logs in OUT."""
    out.mkdir(parents=True, exist_ok=True)
    decode(photos, scratch / "pyramids")
    starts = {"mask": start_mask, "language": start_language, "joint": scratch / "joined"}

    def train(*names: str) -> None:
        _watch(
            {name: _start_branch(name, photos, scratch, config, share, starts[name]) for name in names}, scratch, out
        )

    train("mask", "language")
    join(scratch / "mask" / "checkpoint", scratch / "language" / "checkpoint", scratch / "joined")
    train("joint")
    shutil.copytree(scratch / "joint" / "checkpoint", out / "checkpoint", dirs_exist_ok=True)


def _watch(running: dict[str, subprocess.Popen[bytes]], scratch: Path, out: Path) -> None:
    """Copy what there is until all have ended."""
    while any(process.poll() is None for process in running.values()):
        time.sleep(COPY_SECONDS)
        _copy_so_far(scratch, out)
    if failed := [name for name, process in running.items() if process.returncode]:
        raise click.ClickException(f"branch {' and '.join(failed)} failed; see the logs in {scratch}")


def decode(photos: Path, cache: Path) -> None:
    """Decode every photo once, on all cores: the branches then find the pixels lying there."""
    entries = [entry for entry in read_manifest(photos) if not entry.is_fake]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda entry: index_photo(entry, cache), entries))


def _start_branch(
    name: str, photos: Path, scratch: Path, config: str, share: float, start: Path | None
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", __spec__.name, "branch", name, str(photos), str(scratch / name)]
    command += ["--config", config, "--share", str(share), "--cache", str(scratch / "pyramids")]
    command += [] if start is None else ["--start", str(start)]
    scratch.mkdir(parents=True, exist_ok=True)
    with (scratch / f"{name}.txt").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - our own arguments


def _copy_so_far(scratch: Path, out: Path) -> None:
    """Copy the weights that are joined in the end, and one log of everything: its lines name their stages."""
    for name in ("mask", "language"):
        weights = scratch / name / "checkpoint" / "model.safetensors"
        if weights.exists():
            shutil.copyfile(weights, out / f"{name}.safetensors")
    logs = [scratch / name / "log.jsonl" for name in BRANCHES]
    (out / "log.jsonl").write_text("".join(log.read_text("utf-8") for log in logs if log.exists()), "utf-8")


@main.command()
@click.argument("name", type=click.Choice(list(BRANCHES)))
@click.argument("photos", type=click.Path(exists=True, path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--start", type=click.Path(exists=True, path_type=Path))
@click.option("--cache", type=click.Path(path_type=Path), required=True)
@click.option("--config", default="small-gpu", show_default=True)
@click.option("--share", type=float, default=1.0, show_default=True)
def branch(name: str, photos: Path, folder: Path, start: Path | None, cache: Path, config: str, share: float) -> None:
    """Train one branch in FOLDER."""
    from worker.defakerone.training.settings import choose_stages, read_run
    from worker.defakerone.training.trainer import Trainer

    options: dict[str, Any] = {"photos": photos, "cache": cache}
    if start is not None:
        options |= {"start": start, "preset": "", "high_pass_start": False}
    settings = choose_stages(read_run(config, options), ",".join(BRANCHES[name]))
    stages = tuple(replace(stage, minutes=stage.minutes * share) for stage in settings.stages)
    workers = max(1, (os.cpu_count() or 2) // (1 if name == "joint" else 2) - 1)
    Trainer(replace(settings, stages=stages, workers=workers), folder).train()


def join(mask: Path, language: Path, out: Path) -> None:
    """Write a checkpoint with one's mask branch and the other's language side."""
    from worker.defakerone.detector import DeFakerOne
    from worker.defakerone.training.trainer import PIECE_BYTES

    model, other = DeFakerOne.from_pretrained(language), DeFakerOne.from_pretrained(mask)
    for part in ("seg_projection", "grounding"):
        getattr(model.network, part).load_state_dict(getattr(other.network, part).state_dict())
    model.with_metadata(training=other.metadata.training).save_pretrained(out, max_shard_bytes=PIECE_BYTES)


@main.command("join")
@click.argument("mask", type=click.Path(exists=True, path_type=Path))
@click.argument("language", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
def join_command(mask: Path, language: Path, out: Path) -> None:
    """Write OUT with the mask branch of MASK and the language side of LANGUAGE."""
    join(mask, language, out)


if __name__ == "__main__":
    main()
