"""Tiles as InternVL2 cuts them."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image

from tests.unit.defakerone.conftest import FIXTURE
from worker.defakerone.config import DEFAKERONE_SMALL
from worker.defakerone.errors import ImageError
from worker.defakerone.preprocessing import preprocess
from worker.defakerone.tiling import candidate_grids, choose_grid, cut

CASES = json.loads((FIXTURE / "tiling_cases.json").read_text())


def test_all_reference_cases() -> None:
    assert len(CASES) == 120
    for case in CASES:
        grid = choose_grid(
            case["width"],
            case["height"],
            case["tile"],
            max_tiles=case["max_num"],
            use_thumbnail=case["use_thumbnail"],
        )
        assert (grid.cols, grid.rows, grid.tiles) == (case["cols"], case["rows"], case["n_tiles"]), case


def test_candidates_never_exceed_the_limit_and_come_in_order_of_area() -> None:
    areas = [cols * rows for cols, rows in candidate_grids(2, 12)]
    assert areas == sorted(areas)
    assert min(areas) == 2
    assert max(areas) == 12


def test_tiles_run_left_to_right_then_down_and_the_thumbnail_is_last() -> None:
    image = Image.new("RGB", (60, 40))
    for col in range(3):
        for row in range(2):
            image.paste((80 * col, 100 * row, 0), (20 * col, 20 * row, 20 * col + 20, 20 * row + 20))
    tiles = cut(image, choose_grid(60, 40, 20), 20)
    centres = [tile.getpixel((10, 10)) for tile in tiles]
    assert centres[:6] == [(80 * col, 100 * row, 0) for row in range(2) for col in range(3)]
    assert len(tiles) == 7
    assert tiles[6].size == (20, 20)


@pytest.mark.parametrize("size", [(1, 1), (1, 9000), (9000, 7), (3, 2), (447, 449)])
def test_odd_sizes_are_prepared_with_the_right_shapes(size: tuple[int, int]) -> None:
    prepared = preprocess(Image.new("RGB", size), DEFAKERONE_SMALL)
    side, square = DEFAKERONE_SMALL.vision.image_size, DEFAKERONE_SMALL.grounding.image_size
    assert prepared.pixel_values.shape == (prepared.grid.tiles, 3, side, side)
    assert prepared.sam_pixel_values.shape == (1, 3, square, square)
    assert prepared.size == (size[1], size[0])
    assert prepared.grid.tiles <= DEFAKERONE_SMALL.max_tiles + 1


def test_an_idle_thread_beside_changes_no_pixel() -> None:
    image = Image.effect_noise((733, 481), 60).convert("RGB")
    with ThreadPoolExecutor(1) as pool:
        beside = preprocess(image, DEFAKERONE_SMALL, beside=pool)
    alone = preprocess(image, DEFAKERONE_SMALL)
    assert torch.equal(beside.tiles_u8, alone.tiles_u8)
    assert torch.equal(beside.sam_u8, alone.sam_u8)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError, match="0 x 5") as caught:
        preprocess(Image.new("RGB", (0, 5)), DEFAKERONE_SMALL)
    assert caught.value.code == "empty_image"
