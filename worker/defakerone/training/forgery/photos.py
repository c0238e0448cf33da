"""Which authentic photos are there, who may learn from them, and how are their pixels reached quickly?

Photos are decoded once, turned upright and kept as a pyramid of memory-mapped arrays (each level half the one
before), so that a window of a 16-megapixel photo at any scale costs one small copy instead of a full decode.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from worker.defakerone.manifest import Entry, read_manifest
from worker.defakerone.samples import check_files

Pixels = npt.NDArray[Any]
"""RGB pixels, (height, width, 3)."""

DOMAINS = ("nature", "document")
VALIDATION_PERCENT = 15
SPLIT_SALT = "assay-4:"  # chosen once, so that every kind of photo has some on the validation side


class PhotoError(ValueError):
    """A base photo cannot be used; the message names the file and what to do."""


@dataclass(frozen=True)
class Word:
    """One printed word of a scanned document; the box is (left, top, width, height) as fractions of the page."""

    text: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Photo:
    """One authentic photo: what it is called, where its pyramid lies, who may reuse it."""

    id: str
    path: Path
    domain: str
    source: str
    licence: str
    levels: tuple[Path, ...]
    words: tuple[Word, ...] = field(default=(), repr=False)

    def level(self, index: int) -> Pixels:
        """Map one pyramid level into memory without reading it."""
        mapped: Pixels = np.load(self.levels[index], mmap_mode="r")
        return mapped

    @property
    def size(self) -> tuple[int, int]:
        """Width and height at full resolution, upright."""
        height, width = self.level(0).shape[:2]
        return width, height


def split_of(entry: Entry) -> str:
    """Say whether a photo trains or validates: by camera, else by source, never by image.

    Everything that one camera took falls on one side, so validation shows unseen photos and unseen cameras.
    """
    if entry.split in ("train", "validation"):
        return entry.split
    camera = " ".join(str(entry.extra.get(key) or "") for key in ("camera_make", "camera_model")).strip()
    source = camera or str(entry.group or entry.extra.get("source_path") or entry.id)
    bucket = int(hashlib.sha256((SPLIT_SALT + source).encode()).hexdigest(), 16) % 100
    return "validation" if bucket < VALIDATION_PERCENT else "train"


def stable_order(name: str) -> str:
    """Order names at random, but always the same way: smaller subsets lie inside larger ones."""
    return hashlib.sha256((SPLIT_SALT + name).encode()).hexdigest()


def decode_upright(path: Path) -> Pixels:
    """Decode a photo to RGB, turned as its EXIF orientation says."""
    try:
        with Image.open(path) as opened:
            return np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise PhotoError(
            f"{path}: cannot be decoded ({error}); remove it from the manifest or restore the file"
        ) from error


def _write_level(path: Path, pixels: Pixels) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.save(file, pixels)
    partial.replace(path)


def build_pyramid(path: Path, cache: Path, key: str, smallest: int = 288) -> tuple[Path, ...]:
    """Decode once and write halves until the short side would fall below `smallest`; later calls only list them."""
    cache.mkdir(parents=True, exist_ok=True)
    done = cache / f"{key}.levels"
    if done.exists():
        return tuple(cache / f"{key}.{i}.npy" for i in range(int(done.read_text())))
    pixels = decode_upright(path)
    levels: list[Path] = []
    while True:
        levels.append(cache / f"{key}.{len(levels)}.npy")
        _write_level(levels[-1], pixels)
        height, width = pixels.shape[:2]
        if min(height, width) // 2 < smallest:
            break
        pixels = cv2.resize(pixels, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    done.write_text(str(len(levels)))
    return tuple(levels)


def _read_words(path: Path) -> tuple[Word, ...]:
    entries = json.loads(path.read_text(encoding="utf-8"))
    boxes = [(e["text"], e["box"]) for e in entries if e["type"] == "WORD"]
    return tuple(Word(text, (b["Left"], b["Top"], b["Width"], b["Height"])) for text, b in boxes)


def index_photo(entry: Entry, cache: Path) -> Photo:
    """Describe one photo, decoding it if nobody has; raises PhotoError."""
    key = f"{entry.id}-{(entry.sha256 or '')[:12]}"
    ocr = entry.extra.get("ocr")
    words = _read_words(entry.root / ocr) if ocr else ()
    levels = build_pyramid(entry.image_path, cache, key)
    return Photo(entry.id, entry.image_path, entry.domain, entry.source, entry.licence or "", levels, words)


class PhotoLibrary:
    """The authentic photos of one split, by domain, ready to be windowed."""

    def __init__(self, root: Path, split: str, cache: Path, domains: tuple[str, ...] = DOMAINS, limit: int = 0) -> None:
        """Index `root/manifest.jsonl`; pyramids go to `cache`.

        `split` is train, validation or all; `limit` 0 is none.
        """
        authentic = [entry for entry in read_manifest(root) if not entry.is_fake]
        chosen = [entry for entry in authentic if split in ("all", split_of(entry))]
        chosen = sorted(chosen, key=lambda entry: stable_order(entry.id))[:limit] if limit else chosen
        check_files(chosen)
        self.photos = [index_photo(entry, cache) for entry in chosen]
        self.by_domain = {d: [p for p in self.photos if p.domain == d] for d in domains}
        if not any(self.by_domain.values()):
            raise PhotoError(f"{root}: no authentic photo in split {split!r}; a row needs label real and a domain")

    def draw(self, rng: np.random.Generator, domain: str) -> Photo:
        """Draw one photo of a domain; nature stands in where the library has none of it."""
        pool = self.by_domain.get(domain) or self.photos
        return pool[int(rng.integers(len(pool)))]
