"""Into which tiles is an image cut for the language model?

InternVL2's dynamic high-resolution tiling (arXiv 2404.16821, section 3.2): the grid whose shape comes nearest to the
image's, the whole image resized to that grid, tiles row by row, and the thumbnail last where there is more than one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from PIL import Image


@dataclass(frozen=True, slots=True)
class Grid:
    """A choice of tiles: `cols` x `rows`, and a thumbnail of the whole image behind them."""

    cols: int
    rows: int
    thumbnail: bool

    @property
    def tiles(self) -> int:
        """Tiles in all, the thumbnail counted."""
        return self.cols * self.rows + int(self.thumbnail)


@lru_cache(maxsize=16)
def candidate_grids(min_tiles: int, max_tiles: int) -> tuple[tuple[int, int], ...]:
    """List every (cols, rows) with min_tiles <= cols * rows <= max_tiles, fewest tiles first."""
    sides = range(1, max_tiles + 1)
    grids = [(cols, rows) for cols in sides for rows in sides if min_tiles <= cols * rows <= max_tiles]
    return tuple(sorted(grids, key=lambda grid: grid[0] * grid[1]))


def choose_grid(
    width: int, height: int, side: int, *, min_tiles: int = 1, max_tiles: int = 12, use_thumbnail: bool = True
) -> Grid:
    """Choose the grid for an image of `width` x `height` pixels and tiles of `side` pixels.

    The nearest aspect ratio wins. Between equally near ones the larger grid wins only where the image has more than
    half as many pixels as that grid, so that small images are not blown up.
    """
    aspect, best, best_distance = width / height, (1, 1), float("inf")
    for cols, rows in candidate_grids(min_tiles, max_tiles):
        distance = abs(aspect - cols / rows)
        if distance < best_distance:
            best, best_distance = (cols, rows), distance
        elif distance == best_distance and width * height > 0.5 * side * side * cols * rows:
            best = (cols, rows)
    return Grid(*best, thumbnail=use_thumbnail and best != (1, 1))


def cut(image: Image.Image, grid: Grid, side: int) -> list[Image.Image]:
    """Resize `image` (RGB) to the grid, bicubic, and cut it: left to right, top to bottom, thumbnail last."""
    whole = image.resize((grid.cols * side, grid.rows * side), Image.Resampling.BICUBIC)
    corners = [(col * side, row * side) for row in range(grid.rows) for col in range(grid.cols)]
    tiles = [whole.crop((x, y, x + side, y + side)) for x, y in corners]
    return [*tiles, image.resize((side, side), Image.Resampling.BICUBIC)] if grid.thumbnail else tiles
