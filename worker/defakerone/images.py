"""How does a file, perhaps hostile, become upright RGB pixels under limits?

The one image loader: detection, training, evaluation and the screening line's decoder processes all use it, so they all
see the same pixels. It needs Pillow and numpy only. The header is checked against the limits before a pixel is decoded;
whatever is lost on the way to 8-bit RGB is said in `notes`. JPEG `draft` mode is never used: it destroys the traces.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from worker.defakerone.errors import ImageError
from worker.defakerone.gif import count_gif_frames

FORMATS: Final = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP")
SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".tif", ".tiff", ".bmp", ".dib"}
)

FIRST_FRAME: Final = "first_frame_only"  # the file is animated or has pages; only the first is seen
ALPHA_COMPOSITED: Final = "alpha_composited"  # transparent pixels stand on white
DEPTH_REDUCED: Final = "depth_reduced"  # more than 8 bits a channel were scaled down

OUT_OF_MEMORY: Final = "decoding needs more memory than there is"

# Upright = these steps in turn, by EXIF orientation.
_UPRIGHT: Final = {
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
    ZeroDivisionError,
    struct.error,
    zlib.error,
)

# Pillow warns about broken EXIF, odd TIFF tags and the like. Here such files are tolerated and are nobody's news.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is decoded at all. Pixels bound the memory: three bytes each, and as much again while turning upright."""

    max_bytes: int = 25_000_000
    max_pixels: int = 50_000_000
    max_side: int = 16_384
    max_frames: int = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class LoadedImage:
    """Upright pixels and what happened on the way to them."""

    image: Image.Image  # RGB, upright
    format: str  # lower case: jpeg, png, ...
    orientation: int  # EXIF's, 1..8; applied already
    frames: int
    notes: tuple[str, ...]

    @property
    def orientation_applied(self) -> bool:
        """Whether the stored pixels had to be turned."""
        return self.orientation != 1


def load_image(source: Path | bytes | BinaryIO, limits: ImageLimits | None = None) -> LoadedImage:
    """Decode a file; raises ImageError, whose `code` says why not.

    Codes: unreadable, too_many_bytes, unknown_format, too_many_pixels, side_too_long, empty_image, too_many_frames,
    undecodable, out_of_memory.
    """
    limits = limits or ImageLimits()
    data = _read(source, limits.max_bytes)
    with _open(data) as image:
        _check_size(image.size, limits)
        frames = _count_frames(image, data, limits.max_frames)
        orientation = _orientation(image)
        rgb, notes = _decode(image)
    if frames > 1:
        notes = (*notes, FIRST_FRAME)
    return LoadedImage(rgb, _format(image), orientation, frames, notes)


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
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError("unknown_format", f"not an image of a known format ({', '.join(FORMATS)})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("too_many_pixels", str(error)) from error
    except MemoryError as error:
        raise ImageError("out_of_memory", OUT_OF_MEMORY) from error
    except _BROKEN as error:
        raise ImageError("undecodable", f"the header is broken: {error}") from error


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
        frames = count_gif_frames(data, limit) if image.format == "GIF" else int(getattr(image, "n_frames", 1))
    except _BROKEN:
        return 1  # the first frame may be whole where the list of frames is not
    if frames > limit:
        raise ImageError("too_many_frames", f"more than {limit:,} frames")
    return max(frames, 1)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _BROKEN:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _decode(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    try:
        image.load()
        # Asked again after decoding: the TIFF reader has turned the pixels and dropped the tag by then.
        turn = _UPRIGHT.get(_orientation(image))
        rgb, notes = _to_rgb(image)
        return (rgb if turn is None else rgb.transpose(turn)), notes
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("too_many_pixels", str(error)) from error
    except MemoryError as error:
        raise ImageError("out_of_memory", OUT_OF_MEMORY) from error
    except _BROKEN as error:
        raise ImageError("undecodable", f"the file is damaged: {error}") from error


def _to_rgb(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Convert a decoded image of any mode to RGB, and say what was lost."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.copy(), ()
    if image.mode[0] in "IF":  # I, I;16, F: more than eight bits, which `convert` would saturate to white
        return _scale_to_8_bits(image).convert("RGB"), (DEPTH_REDUCED,)
    if image.has_transparency_data or image.mode in ("La", "RGBa"):
        return _on_white(image)
    return image.convert("RGB"), ()


def _on_white(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    rgba = image.convert("RGBA")
    lowest, _ = rgba.getchannel("A").getextrema()
    if lowest == 255:
        return rgba.convert("RGB"), ()
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB"), (ALPHA_COMPOSITED,)


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    """Scale grey values to 0..255 by the range that their type suggests: 1, 255, 65535, else by what occurs."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low < 0:
        values, high = values - low, high - low
    top = next((step for step in _tops(image.mode) if high <= step), high)
    return Image.fromarray(np.round(values * (255.0 / top)).clip(0, 255).astype(np.uint8))


def _tops(mode: str) -> tuple[float, ...]:
    if mode.startswith("I;16"):
        return (65535.0,)
    return (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)


def _format(image: Image.Image) -> str:
    name = (image.format or "").lower()
    return "jpeg" if name == "mpo" else name  # phones append previews to JPEGs; the first picture is the photo
