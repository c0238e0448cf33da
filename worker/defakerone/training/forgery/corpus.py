"""How do synthesised forgeries become files: pictures, masks and a manifest, the same under one seed however many work?

Everything is written beside the target folder first and moved into place at the end, so that a full disk or a kill
leaves nothing half-written.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from worker.defakerone.manifest import Entry, write_manifest
from worker.defakerone.training.forgery.photos import PhotoError, PhotoLibrary
from worker.defakerone.training.forgery.synthesis import Recipe, Sample, Synthesizer

CHUNK = 16


class CorpusError(RuntimeError):
    """The corpus could not be written; what was there before is untouched."""


@dataclass(frozen=True)
class CorpusJob:
    """What to synthesise: from which photos, how many, under which seed."""

    photos: Path
    target: Path
    count: int
    seed: int
    split: str = "all"
    recipe: Recipe = field(default_factory=Recipe)


def default_cache() -> Path:
    """Say where decoded photos are kept: ASSAY_CACHE, else the user's cache folder."""
    return Path(os.environ.get("ASSAY_CACHE", Path.home() / ".cache" / "assay")) / "pyramids"


def write_corpus(job: CorpusJob, workers: int, cache: Path | None = None) -> Iterator[int]:
    """Write the corpus, yielding how many samples are done; on CorpusError or PhotoError nothing is left behind."""
    if job.target.exists() and (not job.target.is_dir() or any(job.target.iterdir())):
        raise CorpusError(f"{job.target}: is there already and not empty; give a new folder")
    cache = cache or default_cache()
    PhotoLibrary(job.photos, job.split, cache)  # reports what is wrong with the photos, and decodes each of them once
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{job.target.name}.", dir=job.target.parent))
    except OSError as error:
        raise CorpusError(f"{job.target}: cannot be written: {error.strerror or error}") from error
    try:
        yield from _write_all(job, partial, cache, workers)
        partial.chmod(0o755)
        partial.replace(job.target)
    except OSError as error:
        raise CorpusError(f"{job.target}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_all(job: CorpusJob, partial: Path, cache: Path, workers: int) -> Iterator[int]:
    (partial / "images").mkdir()
    (partial / "masks").mkdir()
    entries: list[Entry] = []
    starts = range(0, job.count, CHUNK)
    # Spawned, not forked: a fork inherits the locks of OpenCV's and torch's threads and can wait for them for ever.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        chunks = pool.map(_write_chunk, *zip(*((job, partial, cache, start) for start in starts), strict=True))
        for chunk in chunks:
            entries += chunk
            yield len(entries)
    write_manifest(partial / "manifest.jsonl", entries)


def _write_chunk(job: CorpusJob, folder: Path, cache: Path, start: int) -> list[Entry]:
    cv2.setNumThreads(1)
    synthesizer = Synthesizer(PhotoLibrary(job.photos, job.split, cache), job.seed, job.recipe)
    indices = range(start, min(start + CHUNK, job.count))
    return [_write_sample(synthesizer.draw(index), index, job, folder) for index in indices]


def _write_sample(sample: Sample, index: int, job: CorpusJob, folder: Path) -> Entry:
    name = f"s{index:06d}"
    rng = np.random.default_rng((job.seed, index, 9))
    lossless = rng.random() < 0.4
    image = folder / "images" / f"{name}.{'png' if lossless else 'jpg'}"
    data = BytesIO()
    picture = Image.fromarray(sample.pixels)
    picture.save(data, "PNG") if lossless else picture.save(data, "JPEG", quality=int(rng.integers(70, 98)))
    image.write_bytes(data.getvalue())
    mask = None
    if sample.fake:
        mask = f"masks/{name}.png"
        Image.fromarray(sample.mask).save(folder / mask)
    return Entry(
        id=name,
        image=f"images/{image.name}",
        mask=mask,
        label="fake" if sample.fake else "authentic",
        domain=sample.domain,
        operation=sample.operation,
        split=None if job.split == "all" else job.split,
        dataset="assay-forge",
        group="+".join(sample.photo_ids[:1]),
        width=sample.pixels.shape[1],
        height=sample.pixels.shape[0],
        sha256=hashlib.sha256(data.getvalue()).hexdigest(),
        mask_fraction=float(sample.mask.mean() / 255) if sample.fake else None,
        root=folder,
        extra={"photos": list(sample.photo_ids), "seed": job.seed, "index": index},
    )


__all__ = ["CorpusError", "CorpusJob", "PhotoError", "default_cache", "write_corpus"]
