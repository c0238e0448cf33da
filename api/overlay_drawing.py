"""How is an overlay drawn? A program of its own, run under limits by `api/drawing.py`.

    python -m api.overlay_drawing FOLDER NAME MAX_PIXELS

reads `image`, `mask` and `heatmap` in FOLDER and writes NAME there.
"""

import sys
from pathlib import Path

from PIL import Image, ImageChops, ImageFilter

from api import display

SIDE = 2048  # pixels: a screen shows no more, and a 50 MP overlay would cost seconds and tens of megabytes
TINT = (255, 32, 32)
OUTLINE = (255, 255, 0)
OPACITY = 0.6  # of the tint where the heat map says 1


def main(folder: Path, name: str, max_pixels: int) -> None:
    """Draw one overlay."""
    display.limit(max_pixels)
    picture = display.upright(folder / "image", SIDE)
    heat = _layer(folder / "heatmap", picture.size, Image.Resampling.BILINEAR)
    mask = _layer(folder / "mask", picture.size, Image.Resampling.NEAREST)
    drawn = Image.composite(Image.new("RGB", picture.size, TINT), picture, heat.point(lambda value: value * OPACITY))
    edge = ImageChops.difference(mask, mask.filter(ImageFilter.MinFilter(3)))
    drawn.paste(OUTLINE, mask=edge)
    drawn.save(folder / name, "JPEG", quality=88)


def _layer(path: Path, size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
    with Image.open(path, formats=("PNG",)) as image:
        return image.convert("L").resize(size, resampling)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
