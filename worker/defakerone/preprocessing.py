"""How does an upright image become the model's two inputs, and what must be remembered to map masks back?

Both branches see the whole image: tiles for the language model, one square copy for SAM2 that ignores the aspect ratio.
Pixels stay uint8 until `normalise`, which runs where the model is: a quarter of the bytes to copy, the same values.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from worker.defakerone.config import DeFakerOneConfig
from worker.defakerone.errors import ImageError
from worker.defakerone.records import Record
from worker.defakerone.tiling import Grid, choose_grid, cut

# Named in every result. Raise it whenever the same image would give other pixels.
PREPROCESS_VERSION: Final = "internvl2-tiles+sam2-square/1"

_MEAN: Final = (0.485, 0.456, 0.406)  # ImageNet; both branches
_STD: Final = (0.229, 0.224, 0.225)


def normalise(pixels: Tensor) -> Tensor:
    """Turn uint8 (n, side, side, 3) into float32 (n, 3, side, side) on the same device: /255, -mean, /std."""
    scaled = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    # Without `non_blocking`, six numbers would wait for all that a GPU has still to do.
    mean, std = (torch.tensor(v).view(1, 3, 1, 1).to(pixels.device, non_blocking=True) for v in (_MEAN, _STD))
    return scaled.sub_(mean).div_(std)


@dataclass(frozen=True, slots=True)
class Prepared(Record):
    """One image, ready for the model, on the CPU. Unpacks as `pixel_values, sam_pixel_values, size`."""

    tiles_u8: Tensor  # uint8 (tiles, side, side, 3), thumbnail last
    sam_u8: Tensor  # uint8 (1, S, S, 3)
    size: tuple[int, int]  # (height, width) of the upright image, where masks return to
    grid: Grid

    @property
    def pixel_values(self) -> Tensor:
        """The normalised tiles: float32 (tiles, 3, side, side)."""
        return normalise(self.tiles_u8)

    @property
    def sam_pixel_values(self) -> Tensor:
        """The normalised square copy: float32 (1, 3, S, S)."""
        return normalise(self.sam_u8)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.pixel_values, self.sam_pixel_values, self.size))


def preprocess(image: Image.Image, config: DeFakerOneConfig, beside: Executor | None = None) -> Prepared:
    """Prepare an upright image of any PIL mode. EXIF is not read: callers pass upright images.

    `beside` may have an idle thread: the square is then resized there while the tiles are cut here. Raises ImageError
    (`empty_image`) for an image without pixels.
    """
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError("empty_image", f"the image has {width} x {height} pixels")
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    side, square = config.vision.image_size, config.grounding.image_size
    grid = choose_grid(
        width,
        height,
        side,
        min_tiles=config.min_tiles,
        max_tiles=config.max_tiles,
        use_thumbnail=config.use_thumbnail,
    )
    shrink = partial(rgb.resize, (square, square), Image.Resampling.BICUBIC)
    shrinking = None if beside is None else beside.submit(shrink)
    tiles = _stack(cut(rgb, grid, side))
    return Prepared(tiles, _stack([shrinking.result() if shrinking else shrink()]), (height, width), grid)


def blank(config: DeFakerOneConfig, tiles: int) -> Prepared:
    """Return a black image of so many tiles, to warm the model with."""
    side, square = config.vision.image_size, config.grounding.image_size
    tiles_u8 = torch.zeros(tiles, side, side, 3, dtype=torch.uint8)
    sam_u8 = torch.zeros(1, square, square, 3, dtype=torch.uint8)
    return Prepared(tiles_u8, sam_u8, (side, side), Grid(tiles, 1, thumbnail=False))


def _stack(images: list[Image.Image]) -> Tensor:
    arrays: list[npt.NDArray[np.uint8]] = [np.asarray(image, dtype=np.uint8) for image in images]
    return torch.from_numpy(np.stack(arrays))  # (n, side, side, 3)
