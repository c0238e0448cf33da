"""How is an image made ready for a reviewer's eyes? A program of its own, run under limits by `api/drawing.py`.

    python rendition_drawing.py FOLDER KIND MAX_PIXELS

reads `image` in FOLDER and writes `out` there: `thumbnail` (JPEG), `upright` (PNG, for formats that browsers cannot
show) or `ela` (PNG, error level analysis). It imports nothing of ours.
"""

import resource
import sys
import warnings
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageChops, ImageOps

THUMBNAIL_SIDE = 256
# Error levels are looked at beside the image at its own pixels; beyond this the picture is scaled, and says less.
MOST_ELA_PIXELS = 4_000_000
# Recompressed once at this quality (Krawetz 2007, "A Picture's Worth"): what was saved more often changes less.
ELA_QUALITY = 90
ELA_GAIN = 16
MEMORY = 2 * 1024**3
CPU_SECONDS = 25
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP")


def main(folder: Path, kind: str, max_pixels: int) -> None:
    """Draw one rendition."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
    {"thumbnail": _thumbnail, "upright": _upright, "ela": _ela}[kind](folder / "image", folder / "out")


def _thumbnail(source: Path, target: Path) -> None:
    with Image.open(source, formats=FORMATS) as image:
        image.draft("RGB", (THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        shown = _on_white(_eight_bit(ImageOps.exif_transpose(image)))
        shown.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), reducing_gap=2.0)
        shown.save(target, "JPEG", quality=80)


def _upright(source: Path, target: Path) -> None:
    with Image.open(source, formats=FORMATS) as image:
        _on_white(_eight_bit(ImageOps.exif_transpose(image))).save(target, "PNG", compress_level=1)


def _ela(source: Path, target: Path) -> None:
    with Image.open(source, formats=FORMATS) as image:
        shown = _on_white(_eight_bit(ImageOps.exif_transpose(image)))
    scale = (MOST_ELA_PIXELS / (shown.width * shown.height)) ** 0.5
    again = BytesIO()
    shown.save(again, "JPEG", quality=ELA_QUALITY)
    with Image.open(again, formats=("JPEG",)) as recompressed:
        difference = ImageChops.difference(shown, recompressed.convert("RGB"))
    levels = difference.point([min(255, value * ELA_GAIN) for value in range(256)] * 3)
    if scale < 1:
        levels = levels.resize((max(1, int(shown.width * scale)), max(1, int(shown.height * scale))))
    levels.save(target, "PNG", compress_level=3)


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit grey would saturate to white if it were converted without scaling."""
    if image.mode.startswith("I"):
        return image.point(lambda value: value / 256).convert("L")
    return image


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layered = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered).convert("RGB")
    return image.convert("RGB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
