"""How does a line of a manifest become pixels and a mask that lie upright, of the same size, and fit for counting?

Image and mask are turned alike by the image's EXIF orientation: masks are stored on the image's stored pixel grid.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from worker.defakerone.manifest import (
    PROBLEMS_SHOWN,
    CorruptImageError,
    Entry,
    ManifestError,
    MaskMismatchError,
    MissingFileError,
)

# EXIF orientation -> the operation that makes the picture upright (EXIF 2.32, tag 0x0112).
UPRIGHT: dict[int, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
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


def load_sample(entry: Entry) -> Sample:
    """Decode the image and the mask of `entry`; raises the ManifestError that names the file at fault."""
    data = _read(entry.image_path, "image")
    digest = hashlib.sha256(data).hexdigest()
    if entry.sha256 not in (None, digest):
        raise CorruptImageError(entry.image_path, f"is not the file that the manifest describes (sha256 {digest})")
    stored = _decode(data, entry.image_path)
    _check_described_size(entry, stored.size)
    orientation = stored.getexif().get(ExifTags.Base.Orientation, 1)
    mask = None if entry.mask_path is None else _mask(entry, stored.size, orientation)
    return Sample(entry, _turn(stored, orientation).convert("RGB"), mask, digest)


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


def _check_headers(entry: Entry) -> None:
    size, _ = _header(entry.image_path, "image")
    _check_described_size(entry, size)
    if entry.mask_path is not None:
        mask_size, _ = _header(entry.mask_path, "mask")
        _check_mask_size(entry.mask_path, mask_size, size)


def _header(path: Path, kind: str) -> tuple[tuple[int, int], int]:
    try:
        with Image.open(path) as image:
            return image.size, image.getexif().get(ExifTags.Base.Orientation, 1)
    except FileNotFoundError:
        raise MissingFileError(path, f"the manifest names this {kind}, but there is no such file") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise CorruptImageError(path, f"is no readable {kind} ({error})") from error


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
    stored = _decode(_read(path, "mask"), path)
    _check_mask_size(path, stored.size, size)
    if stored.mode not in MASK_MODES:
        raise MaskMismatchError(path, f"has the pixel mode {stored.mode}; a mask is an 8-bit greyscale image")
    grey = np.asarray(_turn(stored, orientation).convert("L"))
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


def _decode(data: bytes, path: Path) -> Image.Image:
    try:
        image = Image.open(BytesIO(data))
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CorruptImageError(path, f"cannot be decoded ({error})") from error
    return image


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image
