"""How is an image made ready for a reviewer's eyes? A program of its own, run under limits by `api/drawing.py`.

    python -m api.rendition_drawing FOLDER KIND MAX_PIXELS

reads `image` in FOLDER and writes `out` there: `thumbnail` (JPEG), `upright` (PNG, for formats that browsers cannot
show) or `ela` (PNG, error level analysis).
"""

import sys
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageChops

from api import display

THUMBNAIL_SIDE = 256
# Error levels are looked at beside the image at its own pixels; beyond this the picture is scaled, and says less.
MOST_ELA_PIXELS = 4_000_000
# Recompressed once at this quality (Krawetz 2007, "A Picture's Worth"): what was saved more often changes less.
ELA_QUALITY = 90
ELA_GAIN = 16


def main(folder: Path, kind: str, max_pixels: int) -> None:
    """Draw one rendition."""
    display.limit(max_pixels)
    {"thumbnail": _thumbnail, "upright": _upright, "ela": _ela}[kind](folder / "image", folder / "out")


def _thumbnail(source: Path, target: Path) -> None:
    display.upright(source, THUMBNAIL_SIDE).save(target, "JPEG", quality=80)


def _upright(source: Path, target: Path) -> None:
    display.upright(source).save(target, "PNG", compress_level=1)


def _ela(source: Path, target: Path) -> None:
    shown = display.upright(source)
    scale = (MOST_ELA_PIXELS / (shown.width * shown.height)) ** 0.5
    again = BytesIO()
    shown.save(again, "JPEG", quality=ELA_QUALITY)
    with Image.open(again, formats=("JPEG",)) as recompressed:
        difference = ImageChops.difference(shown, recompressed.convert("RGB"))
    levels = difference.point([min(255, value * ELA_GAIN) for value in range(256)] * 3)
    if scale < 1:
        levels = levels.resize((max(1, int(shown.width * scale)), max(1, int(shown.height * scale))))
    levels.save(target, "PNG", compress_level=3)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
