"""How does a file, perhaps hostile, become upright RGB pixels under limits?

The one image loader: detection, training, evaluation and the screening line's decoder processes all use it, so they all
see the same pixels. It needs Pillow and numpy only. The header is checked against the limits before a pixel is decoded;
whatever is lost on the way to 8-bit RGB is said in `notes`. JPEG `draft` mode is never used: it destroys the traces.

Decoded pixels are converted and turned strip by strip into their place in the result. No second whole copy is ever
held, which keeps 50 MP within a decoder's memory; and a strip fits the processor's cache, which is four times as fast.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from worker.defakerone.errors import ImageError
from worker.defakerone.gif import count_gif_frames
from worker.defakerone.tiff import count_tiff_pages

Pixels = NDArray[np.uint8]
"""(height, width, 3), RGB."""
Allocate = Callable[[tuple[int, int, int]], Pixels]

FORMATS: Final = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP")
SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".tif", ".tiff", ".bmp", ".dib"}
)

# How each format begins. What starts like this but cannot be read is a broken image, anything else is another format.
_SIGNATURES: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM")
STRIP_PIXELS: Final = 1 << 18

FIRST_FRAME: Final = "first_frame_only"  # the file is animated or has pages; only the first is seen
ALPHA_COMPOSITED: Final = "alpha_composited"  # transparent pixels stand on white
DEPTH_REDUCED: Final = "depth_reduced"  # more than 8 bits a channel were scaled down

# EXIF orientation -> the operation that makes stored pixels upright; a mask on the stored grid is turned by it too.
UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders raise on broken files. Wide, because each is written by hand; named, so that a bug of ours that
# raises anything else is not taken for a bad file.
_BROKEN: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    OverflowError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    AssertionError,
    ZeroDivisionError,
    struct.error,
    zlib.error,
)

# Image generators write their recipe into packed text; Pillow's own limit of 1 MiB refuses real files.
PngImagePlugin.MAX_TEXT_CHUNK = 8 * 1024 * 1024
# Pillow warns about broken EXIF, odd TIFF tags and the like. Here such files are tolerated and are nobody's news.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is decoded at all. Pixels bound the memory: three bytes each, and four while they are being decoded."""

    max_bytes: int = 25_000_000
    max_pixels: int = 50_000_000
    max_side: int = 16_384
    max_frames: int = 1_000


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """Upright pixels and what happened on the way to them."""

    pixels: Pixels  # upright
    format: str  # lower case: jpeg, png, ...
    orientation: int  # EXIF's, 1..8; applied already
    frames: int
    notes: tuple[str, ...]

    @cached_property
    def image(self) -> Image.Image:
        """The pixels as a PIL image, RGB."""
        return Image.fromarray(self.pixels)

    @property
    def orientation_applied(self) -> bool:
        """Whether the stored pixels had to be turned."""
        return self.orientation != 1


def load_image(
    source: Path | bytes | BinaryIO, limits: ImageLimits | None = None, allocate: Allocate | None = None
) -> LoadedImage:
    """Decode a file; raises ImageError, whose `code` says why not.

    `allocate` provides the (height, width, 3) array for the pixels, by default a new one. Codes: unreadable,
    too_many_bytes, unknown_format, too_many_pixels, side_too_long, empty_image, too_many_frames, undecodable,
    out_of_memory.
    """
    limits = limits or ImageLimits()
    data = _read(source, limits.max_bytes)
    with _open(data) as image:
        _check_size(image.size, limits)
        frames = _count_frames(image, data, limits.max_frames)
        # The TIFF reader turns the pixels and drops the tag on decoding; PNG's decodes when it is asked for the tag.
        turned = _orientation(image) if image.format == "TIFF" else 1
        _decode(image)
        _check_size(image.size, limits)  # a frame may be larger than the header said
        to_turn = _orientation(image)
        pixels, notes = _convert(image, to_turn, allocate or _new)
    if frames > 1:
        notes = (*notes, FIRST_FRAME)
    return LoadedImage(pixels, _format(image), max(turned, to_turn), frames, notes)


def _new(shape: tuple[int, int, int]) -> Pixels:
    return np.empty(shape, np.uint8)


def _read(source: Path | bytes | BinaryIO, max_bytes: int) -> bytes:
    if isinstance(source, bytes):
        data = source
    else:
        try:
            if isinstance(source, Path):
                with source.open("rb") as file:
                    data = file.read(max_bytes + 1)
            else:
                data = source.read(max_bytes + 1)
        except OSError as error:
            raise ImageError("unreadable", f"cannot read the file: {error.strerror or error}") from error
    if len(data) > max_bytes:
        raise ImageError("too_many_bytes", f"the file has more than {max_bytes:,} bytes")
    return data


def _open(data: bytes) -> Image.Image:
    with _damage("the header is broken"):
        try:
            return Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError as error:
            if data.startswith(_SIGNATURES) or data[8:12] == b"WEBP" or data[4:12] in (b"ftypavif", b"ftypavis"):
                raise ImageError("undecodable", "the header is damaged or cut off") from error
            names = ", ".join(FORMATS)
            raise ImageError("unknown_format", f"not an image of a known format ({names})") from error


def _check_size(size: tuple[int, int], limits: ImageLimits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError("empty_image", f"the image has {width} x {height} pixels")
    if max(size) > limits.max_side:
        raise ImageError("side_too_long", f"{width} x {height} pixels; a side may have {limits.max_side:,}")
    if width * height > limits.max_pixels:
        raise ImageError("too_many_pixels", f"{width} x {height} pixels; {limits.max_pixels:,} are allowed")


def _count_frames(image: Image.Image, data: bytes, limit: int) -> int:
    try:
        walk = _WALKERS.get(image.format or "")
        frames = int(getattr(image, "n_frames", 1)) if walk is None else walk(data, limit)
    except _BROKEN:
        return 1  # the first frame may be whole where the list of frames is not
    if frames > limit:
        raise ImageError("too_many_frames", f"more than {limit:,} frames")
    return max(frames, 1)


# PNG, WebP and AVIF state the number. The further pictures of a JPEG (previews, depth, gain maps) are no frames.
_WALKERS: Final[Mapping[str, Callable[[bytes, int], int]]] = {
    "GIF": count_gif_frames,
    "TIFF": count_tiff_pages,
    "MPO": lambda data, limit: 1,
}


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _BROKEN:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _decode(image: Image.Image) -> None:
    with _damage("the file is damaged"):
        image.load()


@contextmanager
def _damage(what: str) -> Iterator[None]:
    """Turn what Pillow raises on broken files into an ImageError."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("too_many_pixels", str(error)) from error
    except MemoryError as error:
        raise ImageError("out_of_memory", "decoding needs more memory than there is") from error
    except _BROKEN as error:
        raise ImageError("undecodable", f"{what}: {error}") from error


def _convert(image: Image.Image, orientation: int, allocate: Allocate) -> tuple[Pixels, tuple[str, ...]]:
    """Write a decoded image of any mode to its upright place as RGB, and say what was lost."""
    width, height = image.size
    with _damage("the pixels cannot be converted"):
        pixels = allocate((width, height, 3) if orientation >= 5 else (height, width, 3))
        deep = image.mode[0] in "IF"  # more than eight bits, which `convert` would saturate to white
        scale = _scale(image) if deep else None
        translucent = False
        for strip, target in _strips(image, pixels, orientation):
            if scale is not None:
                rgb = scale(strip)
            elif image.has_transparency_data:
                rgb, seen_through = _on_white(strip)
                translucent |= seen_through
            else:
                rgb = strip if strip.mode == "RGB" else strip.convert("RGB")
            turn = UPRIGHT.get(orientation)
            target[:] = np.asarray(rgb if turn is None else rgb.transpose(turn))
    notes = {DEPTH_REDUCED: deep, ALPHA_COMPOSITED: translucent}
    return pixels, tuple(note for note, applies in notes.items() if applies)


def _strips(image: Image.Image, pixels: Pixels, orientation: int) -> Iterator[tuple[Image.Image, Pixels]]:
    """Strips of the stored image from its top, each with the rows or columns of the upright pixels it belongs in."""
    height = image.height
    top = 0
    for strip in _rows(image):
        bottom = top + strip.height
        # Where the stored top edge ends up below or right, the order of the strips is the reverse.
        place = slice(height - bottom, height - top) if orientation in (3, 4, 6, 7) else slice(top, bottom)
        yield strip, pixels[:, place] if orientation >= 5 else pixels[place]
        top = bottom


def _on_white(strip: Image.Image) -> tuple[Image.Image, bool]:
    """Lay a strip on white, which hides what a plain conversion would expose; says whether it mattered."""
    rgba = strip.convert("RGBA")
    lowest, _ = rgba.getchannel("A").getextrema()
    if lowest == 255:
        return rgba.convert("RGB"), False
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"), True


def _scale(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """How to bring grey values to 0..255: by the range that their type suggests, 1, 255, 65535, else by what occurs."""
    low, top = 0.0, 65535.0
    if not image.mode.startswith("I;16"):
        extremes = [(values.min(), values.max()) for values in map(_grey, _rows(image))]
        low = min(0.0, float(min(least for least, _ in extremes)))
        high = float(max(most for _, most in extremes)) - low
        steps = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        top = next((step for step in steps if high <= step), high)

    def scaled(strip: Image.Image) -> Image.Image:
        values = (_grey(strip) - low) * (255.0 / top)
        return Image.fromarray(np.round(values).clip(0, 255).astype(np.uint8)).convert("RGB")

    return scaled


def _rows(image: Image.Image) -> Iterator[Image.Image]:
    width, height = image.size
    rows = max(1, STRIP_PIXELS // width)
    return (image.crop((0, top, width, min(top + rows, height))) for top in range(0, height, rows))


def _grey(strip: Image.Image) -> NDArray[np.float32]:
    return np.nan_to_num(np.asarray(strip, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _format(image: Image.Image) -> str:
    name = (image.format or "").lower()
    return "jpeg" if name == "mpo" else name  # phones append previews to JPEGs; the first picture is the photo
