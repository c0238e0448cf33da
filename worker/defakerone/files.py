"""How is a heap of files screened while reading, inference and writing overlap?

Decoding and finishing run on threads (Pillow, numpy and OpenCV release the interpreter lock), the network on the
caller's thread. A bad file is a result with an error; the others go on. Results come in the order of the files, and at
most a few batches are in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image

from worker.defakerone.detector import DeFakerOne
from worker.defakerone.errors import DetectorError, ImageError
from worker.defakerone.images import SUFFIXES, ImageLimits, load_image
from worker.defakerone.preprocessing import Prepared
from worker.defakerone.verdict import Detection, Inference


@dataclass(frozen=True, slots=True)
class Source:
    """One file to screen. `name` is its path below what the user named: where its results go."""

    path: Path
    name: Path


@dataclass(frozen=True, slots=True, eq=False)
class Screened:
    """A file's result: image and detection, or an error."""

    source: Source
    image: Image.Image | None = None
    detection: Detection | None = None
    error: DetectorError | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    source: Source
    image: Image.Image | None = None
    prepared: Prepared | None = None
    error: DetectorError | None = None


Done = TypeVar("Done")


def find_sources(paths: Iterable[Path]) -> Iterator[Source]:
    """List files as they are named, and in folders all image files below them, by name; hidden ones are left out.

    Two files never share a `name`: the later gets a number.
    """
    taken: set[Path] = set()
    for path in paths:
        for found, name in _below(path):
            free = next(n for n in _numbered(name) if n not in taken)
            taken.add(free)
            yield Source(found, free)


def _below(path: Path) -> Iterator[tuple[Path, Path]]:
    if not path.is_dir():
        yield path, Path(path.name)
        return
    for found in sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()):
        name = found.relative_to(path)
        if not any(part.startswith(".") for part in name.parts):
            yield found, name


def _numbered(name: Path) -> Iterator[Path]:
    yield name
    yield from (name.with_name(f"{name.stem}~{number}{name.suffix}") for number in count(2))


def screen_files(
    model: DeFakerOne,
    sources: Iterable[Source],
    finish: Callable[[Screened], Done],
    *,
    batch_size: int = 8,
    threads: int = 2,
    limits: ImageLimits | None = None,
) -> Iterator[Done]:
    """Screen every source and yield what `finish` makes of each result, in order. `finish` runs on the threads."""
    batches = _batches(sources, batch_size)
    with ThreadPoolExecutor(threads, thread_name_prefix="files") as pool:
        pending: deque[list[Future[_Loaded]]] = deque()
        finishing: deque[list[Future[Done]]] = deque()
        for batch in batches:
            pending.append([pool.submit(_load, model, source, limits) for source in batch])
            if len(pending) > 1:  # the next batch decodes while this one infers
                finishing.append(_infer(model, pending.popleft(), finish, pool))
            if len(finishing) > 1:
                yield from (future.result() for future in finishing.popleft())
        while pending:
            finishing.append(_infer(model, pending.popleft(), finish, pool))
        for futures in finishing:
            yield from (future.result() for future in futures)


def infer_splitting(model: DeFakerOne, prepared: Sequence[Prepared]) -> list[Inference]:
    """Infer a batch; where memory runs out, halve it until single images fit or one alone does not."""
    try:
        return model.infer(prepared)
    except torch.OutOfMemoryError:
        if len(prepared) == 1:
            raise
    middle = len(prepared) // 2
    return infer_splitting(model, prepared[:middle]) + infer_splitting(model, prepared[middle:])


def _load(model: DeFakerOne, source: Source, limits: ImageLimits | None) -> _Loaded:
    try:
        image = load_image(source.path, limits).image
        return _Loaded(source, image, model.preprocess(image))
    except ImageError as error:
        return _Loaded(source, error=error)


def _infer(
    model: DeFakerOne, batch: list[Future[_Loaded]], finish: Callable[[Screened], Done], pool: ThreadPoolExecutor
) -> list[Future[Done]]:
    loaded = [future.result() for future in batch]
    inferences = iter(infer_splitting(model, [item.prepared for item in loaded if item.prepared is not None]))
    return [
        pool.submit(_finish, model, item, None if item.prepared is None else next(inferences), finish)
        for item in loaded
    ]


def _finish(model: DeFakerOne, item: _Loaded, inference: Inference | None, finish: Callable[[Screened], Done]) -> Done:
    if item.prepared is None or inference is None:
        return finish(Screened(item.source, error=item.error))
    try:
        detection = model.finish(item.prepared, inference)
    except DetectorError as error:
        return finish(Screened(item.source, error=error))
    return finish(Screened(item.source, item.image, detection))


def _batches(sources: Iterable[Source], size: int) -> Iterator[list[Source]]:
    iterator = iter(sources)
    while batch := list(islice(iterator, size)):
        yield batch
