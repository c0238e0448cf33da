"""What did a reviewer draw, and how far is it from the model's mask? A program of its own, run by `api/drawing.py`.

    python -m api.correction_reading FOLDER MAX_PIXELS

reads `correction` and `mask` in FOLDER, writes the correction as an 8-bit PNG of 0 and 255 to `out.png`, and to
`out.json` `{"iou"}`: the intersection over the union of the two marked areas, 1 where both are empty. Exit status 3
where the correction is no PNG of the mask's size.
"""

import json
import sys
from pathlib import Path

from PIL import Image, ImageChops, UnidentifiedImageError

from api import display

MEMORY = 1024**3
CPU_SECONDS = 20
UNFIT = 3


def main(folder: Path, max_pixels: int) -> int:
    """Read one correction; returns the exit status."""
    display.limit(max_pixels, memory=MEMORY, cpu_seconds=CPU_SECONDS)
    mask = _binary(folder / "mask")
    try:
        correction = _binary(folder / "correction", mask.size)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombWarning, Image.DecompressionBombError):
        return UNFIT
    correction.save(folder / "out.png", "PNG", compress_level=6)
    (folder / "out.json").write_text(json.dumps({"iou": _iou(mask, correction)}))
    return 0


def _binary(path: Path, size: tuple[int, int] | None = None) -> Image.Image:
    """0 and 255 from what is at least half bright; raises ValueError for another size, before anything is decoded."""
    with Image.open(path, formats=("PNG",)) as image:
        if size is not None and image.size != size:
            raise ValueError(f"{image.size} is not {size}")
        grey = image.convert("RGBA").convert("L") if image.mode == "P" else image.convert("L")
    return grey.point([0] * 128 + [255] * 128)


def _iou(first: Image.Image, second: Image.Image) -> float:
    both = ImageChops.darker(first, second).histogram()[255]
    either = ImageChops.lighter(first, second).histogram()[255]
    return both / either if either else 1.0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
