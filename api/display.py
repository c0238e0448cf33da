"""How does any accepted file become a picture that a screen can show? Shared by the programs of `api/drawing.py`.

They run apart from the API, one a picture, so this imports Pillow and nothing of ours.
"""

import resource
import struct
import warnings
from pathlib import Path

from PIL import ExifTags, Image

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP")
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's reader of EXIF raises on what it cannot read; the picture itself may be whole.
BROKEN_EXIF = (SyntaxError, ValueError, TypeError, OSError, KeyError, IndexError, OverflowError, struct.error)
MEMORY = 2 * 1024**3
CPU_SECONDS = 25


def limit(max_pixels: int, *, memory: int = MEMORY, cpu_seconds: int = CPU_SECONDS) -> None:
    """Bind this process: whatever a file holds, it ends here, and soon."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


def upright(path: Path, side: int | None = None) -> Image.Image:
    """The first frame as RGB, upright, on white where it is transparent; at most `side` pixels a side if given."""
    with Image.open(path, formats=FORMATS) as image:
        if side is not None:
            image.draft("RGB", (side, side))  # for looking at, not for judging: a JPEG may decode at a fraction
        shown = _true_colour(_eight_bit(_turned(image)))
    if side is not None:
        shown.thumbnail((side, side), reducing_gap=2.0)
    return _on_white(shown)


def _turned(image: Image.Image) -> Image.Image:
    """As the EXIF orientation asks; as it lies where the EXIF is broken, which is how it was screened."""
    image.load()  # Pillow's TIFF reader turns by itself, and PNG's finds EXIF behind the pixels
    try:
        turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except BROKEN_EXIF:
        turn = None
    return image if turn is None else image.transpose(turn)


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit grey would saturate to white if it were converted without scaling."""
    if image.mode.startswith("I"):
        return image.point(lambda value: value / 256).convert("L")
    return image


def _true_colour(image: Image.Image) -> Image.Image:
    """RGBA where anything is transparent, else RGB: neither palettes nor colour keys survive being scaled."""
    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    mode = "RGBA" if transparent else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
