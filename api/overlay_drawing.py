"""How is an overlay drawn? A program of its own, run under limits by `api/overlay.py`.

    python overlay_drawing.py FOLDER NAME MAX_PIXELS

reads `image`, `mask` and `heatmap` in FOLDER and writes NAME there. It imports nothing of ours.
"""

import resource
import sys
import warnings
from pathlib import Path

from PIL import Image, ImageChops, ImageFilter, ImageOps

SIDE = 2048  # pixels: a screen shows no more, and a 50 MP overlay would cost seconds and tens of megabytes
MEMORY = 2 * 1024**3
CPU_SECONDS = 25
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP")
TINT = (255, 32, 32)
OUTLINE = (255, 255, 0)
OPACITY = 0.6  # of the tint where the heat map says 1


def main(folder: Path, name: str, max_pixels: int) -> None:
    """Draw one overlay."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
    picture = _picture(folder / "image")
    heat = _layer(folder / "heatmap", picture.size, Image.Resampling.BILINEAR)
    mask = _layer(folder / "mask", picture.size, Image.Resampling.NEAREST)
    drawn = Image.composite(Image.new("RGB", picture.size, TINT), picture, heat.point(lambda value: value * OPACITY))
    edge = ImageChops.difference(mask, mask.filter(ImageFilter.MinFilter(3)))
    drawn.paste(OUTLINE, mask=edge)
    drawn.save(folder / name, "JPEG", quality=88)


def _picture(path: Path) -> Image.Image:
    """The first frame, upright, on white where it is transparent, at most SIDE pixels a side."""
    with Image.open(path, formats=FORMATS) as image:
        image.draft("RGB", (SIDE, SIDE))  # for looking at, not for judging: a JPEG may decode at a fraction
        turned = ImageOps.exif_transpose(image)
        shown = _eight_bit(turned)
        shown.thumbnail((SIDE, SIDE), reducing_gap=2.0)
        return _on_white(shown)


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


def _layer(path: Path, size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
    with Image.open(path, formats=("PNG",)) as image:
        return image.convert("L").resize(size, resampling)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
