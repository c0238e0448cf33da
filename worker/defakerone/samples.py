"""How does a line of a manifest become pixels and a mask that lie upright, of the same size, and fit for counting?

Image and mask are turned alike by the image's EXIF orientation: masks are stored on the image's stored pixel grid.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from worker.defakerone.errors import ImageError
from worker.defakerone.images import FORMATS, UPRIGHT, ImageLimits, LoadedImage, load_image
from worker.defakerone.manifest import (
    PROBLEMS_SHOWN,
    CorruptImageError,
    Entry,
    ManifestError,
    MaskMismatchError,
    MissingFileError,
)

# Labelled images are one's own, so these are wider than what the service accepts from strangers.
LIMITS = ImageLimits(max_bytes=512_000_000, max_pixels=200_000_000, max_side=65_535, max_frames=10_000)
MASK_MODES = ("1", "L", "P", "RGB", "RGBA", "LA")
MASK_THRESHOLD = 128
"""A mask pixel counts as manipulated from 128 of 255 on: the binarisation at 0.5 of the evaluation protocol."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One decoded entry: an upright RGB image, its mask, and the SHA-256 of the image file's bytes.

    `mask` is (height, width) uint8 of 0 and 1 with 1 = manipulated, None where the entry names none. An authentic
    image needs no mask; one that has it has a black one.
    """

    entry: Entry
    image: Image.Image
    mask: NDArray[np.uint8] | None
    sha256: str


@dataclass(frozen=True, slots=True)
class Digests:
    """SHA-256, in hexadecimal, of an entry's two files; `mask` is None where it has none."""

    image: str
    mask: str | None


def file_digests(entry: Entry) -> Digests:
    """Hash the files of `entry` without decoding them; raises MissingFileError or CorruptImageError."""
    mask = None if entry.mask_path is None else hashlib.sha256(_read(entry.mask_path, "mask")).hexdigest()
    return Digests(_described_digest(entry, _read(entry.image_path, "image")), mask)


def load_sample(entry: Entry) -> Sample:
    """Decode the image and the mask of `entry`; raises the ManifestError that names the file at fault."""
    data = _read(entry.image_path, "image")
    digest = _described_digest(entry, data)
    loaded = _decode(data, entry.image_path)
    stored = _swap_if_turned(loaded.image.size, loaded.orientation)
    _check_described_size(entry, stored)
    mask = None if entry.mask_path is None else _mask(entry, stored, loaded.orientation)
    return Sample(entry, loaded.image, mask, digest)


def load_mask(entry: Entry) -> NDArray[np.uint8] | None:
    """The mask alone, upright: (height, width) uint8 of 0 and 1; None where the entry has none.

    The image's header is read for its size and orientation, its pixels are not.
    """
    if entry.mask_path is None:
        return None
    size, orientation = _header(entry.image_path, "image")
    return _mask(entry, size, orientation)


def check_files(entries: Iterable[Entry]) -> None:
    """Open the header of every image and mask before hours are spent on them.

    Finds missing files, files that are no images, and masks of another size; raises the first as it is, naming the
    others. Damage behind a header shows only on decoding.
    """
    problems: list[ManifestError] = []
    for entry in entries:
        try:
            _check_headers(entry)
        except ManifestError as error:
            problems.append(error)
    if not problems:
        return
    first, *others = problems
    if not others:
        raise first
    shown = "; ".join(str(error) for error in others[: PROBLEMS_SHOWN - 1])
    more = len(others) - (PROBLEMS_SHOWN - 1)
    raise type(first)(first.path, f"{first.problem}; also {shown}" + (f"; and {more} more" if more > 0 else ""))


def _described_digest(entry: Entry, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    if entry.sha256 not in (None, digest):
        raise CorruptImageError(entry.image_path, f"is not the file that the manifest describes (sha256 {digest})")
    return digest


def _check_headers(entry: Entry) -> None:
    size = _size(entry.image_path, "image")
    _check_described_size(entry, size)
    if entry.mask_path is not None:
        _check_mask_size(entry.mask_path, _size(entry.mask_path, "mask"), size)


def _header(path: Path, kind: str) -> tuple[tuple[int, int], int]:
    """The stored size and the orientation. Pillow decodes a whole PNG to find its orientation."""
    with _opened(path, kind) as image:
        return _stored_size(image), image.getexif().get(ExifTags.Base.Orientation, 1)


def _size(path: Path, kind: str) -> tuple[int, int]:
    """The stored size alone, from the header."""
    with _opened(path, kind) as image:
        return _stored_size(image)


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=FORMATS) as image:
            yield image
    except FileNotFoundError:
        raise MissingFileError(path, f"the manifest names this {kind}, but there is no such file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CorruptImageError(path, f"is no readable {kind} ({error})") from error


def _stored_size(image: Image.Image) -> tuple[int, int]:
    if image.format != "TIFF":
        return image.size
    return _swap_if_turned(image.size, image.getexif().get(ExifTags.Base.Orientation, 1))  # it reports upright sizes


def _check_described_size(entry: Entry, size: tuple[int, int]) -> None:
    described = (entry.width or size[0], entry.height or size[1])
    if described != size:
        raise CorruptImageError(
            entry.image_path,
            f"has {size[0]} x {size[1]} stored pixels, but the manifest says {described[0]} x {described[1]}",
        )


def _check_mask_size(path: Path, mask: tuple[int, int], image: tuple[int, int]) -> None:
    if mask != image:
        raise MaskMismatchError(
            path,
            f"has {mask[0]} x {mask[1]} pixels, its image stores {image[0]} x {image[1]}: "
            "a mask covers its image's stored pixel grid exactly",
        )


def _mask(entry: Entry, size: tuple[int, int], orientation: int) -> NDArray[np.uint8]:
    path = entry.root / (entry.mask or "")
    stored = _decode_mask(_read(path, "mask"), path)
    _check_mask_size(path, stored.size, size)
    if stored.mode not in MASK_MODES:
        raise MaskMismatchError(path, f"has the pixel mode {stored.mode}; a mask is an 8-bit greyscale image")
    turn = UPRIGHT.get(orientation)
    grey = np.asarray((stored if turn is None else stored.transpose(turn)).convert("L"))
    mask = (grey >= MASK_THRESHOLD).astype(np.uint8)
    if entry.is_fake and not mask.any():
        raise MaskMismatchError(
            path, f"marks nothing: its largest value is {grey.max()}, and a manipulated pixel is 255 (128 at least)"
        )
    if not entry.is_fake and mask.any():
        raise MaskMismatchError(path, "marks manipulated pixels, but the manifest labels its image as real")
    return mask


def _read(path: Path, kind: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(path, f"the manifest names this {kind}, but there is no such file") from None
    except OSError as error:
        raise CorruptImageError(path, f"the {kind} cannot be read ({error.strerror})") from error


def _decode(data: bytes, path: Path) -> LoadedImage:
    try:
        return load_image(data, LIMITS)
    except ImageError as error:
        raise CorruptImageError(path, str(error)) from error


def _decode_mask(data: bytes, path: Path) -> Image.Image:
    """Decode a mask as it is stored: its grey values are data, and an EXIF tag of its own means nothing."""
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CorruptImageError(path, f"cannot be decoded ({error})") from error
    return image


def _swap_if_turned(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return (size[1], size[0]) if orientation in (5, 6, 7, 8) else size
