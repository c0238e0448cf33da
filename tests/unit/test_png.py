"""The PNG writer: what any reader gets back is what was written."""

from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from worker.png import encode_heatmap, encode_mask

SIZES = [(1, 1), (1, 9000), (9000, 1), (7, 3), (480, 641)]


@pytest.mark.parametrize("size", SIZES)
def test_a_mask_is_read_back_as_0_and_255_by_two_readers(size: tuple[int, int]) -> None:
    mask = np.random.default_rng(1).integers(0, 2, size, np.uint8)
    data = encode_mask(mask)
    image = Image.open(BytesIO(data))
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), mask * 255)
    other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert other is not None
    assert np.array_equal(other, mask * 255)


@pytest.mark.parametrize("size", SIZES)
def test_a_heat_map_is_read_back_rounded_to_a_255th(size: tuple[int, int]) -> None:
    heatmap = np.random.default_rng(2).random(size, np.float32)
    image = np.asarray(Image.open(BytesIO(encode_heatmap(heatmap))))
    assert image.shape == size
    assert np.abs(image / 255 - heatmap).max() <= 0.5 / 255 + 1e-6


def test_both_ends_of_the_scale_are_kept() -> None:
    assert np.asarray(Image.open(BytesIO(encode_heatmap(np.array([[0, 1]], np.float32))))).tolist() == [[0, 255]]


def test_the_writer_changes_nothing_that_it_is_given() -> None:
    mask, heatmap = np.ones((4, 4), np.uint8), np.full((4, 4), 0.5, np.float32)
    encode_mask(mask)
    encode_heatmap(heatmap)
    assert (mask == 1).all()
    assert (heatmap == 0.5).all()
