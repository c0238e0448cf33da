"""The perturbation suites: five strengths each, seeded, on RGB; masks follow where pixels move."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from worker.defakerone.evaluation.perturbations import (
    IDENTITY,
    SEVEN,
    SUITES,
    Perturbation,
    all_perturbations,
    perturb,
    resize_mask,
)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    random = np.random.default_rng(4)
    smooth = np.asarray(Image.fromarray(random.integers(30, 220, (6, 8, 3), np.uint8)).resize((96, 72)), np.int16)
    return Image.fromarray(np.clip(smooth + random.normal(0, 3, (72, 96, 3)), 0, 255).astype(np.uint8))


def changed(picture: Image.Image, suite: str, level: float, image_id: str = "a", seed: int = 0) -> np.ndarray[Any, Any]:
    image, _ = perturb(picture, None, Perturbation(suite, level), seed=seed, image_id=image_id)
    assert image.mode == "RGB"
    return np.asarray(image, np.int16)


def test_there_are_seven_suites_of_five_levels_and_a_control() -> None:
    every = all_perturbations()
    assert len(every) == 1 + 7 * 5
    assert len({perturbation.name for perturbation in every}) == 36
    assert every[0].suite == IDENTITY
    assert {perturbation.suite for perturbation in every[1:]} == set(SEVEN)


def test_the_control_changes_nothing(picture: Image.Image) -> None:
    assert np.array_equal(changed(picture, IDENTITY, 0), np.asarray(picture))


@pytest.mark.parametrize("suite", SEVEN)
def test_every_level_changes_the_picture_and_keeps_its_size(picture: Image.Image, suite: str) -> None:
    for level in SUITES[suite].levels:
        pixels = changed(picture, suite, level)
        assert pixels.shape == (72, 96, 3)
        assert not np.array_equal(pixels, np.asarray(picture))


@pytest.mark.parametrize("suite", ["blur", "jpeg", "noise", "resize"])
def test_the_levels_grow_in_strength(picture: Image.Image, suite: str) -> None:
    away = [
        np.abs(changed(picture, suite, level) - np.asarray(picture, np.int16)).mean() for level in SUITES[suite].levels
    ]
    assert away == sorted(away)


def test_brightness_contrast_and_saturation_do_what_their_names_say(picture: Image.Image) -> None:
    pixels = np.asarray(picture, np.int16)
    assert changed(picture, "brightness", 1.5).mean() > pixels.mean() > changed(picture, "brightness", 0.5).mean()
    assert changed(picture, "contrast", 1.5).std() > pixels.std() > changed(picture, "contrast", 0.5).std()
    spread = [np.ptp(grid, axis=2).mean() for grid in (changed(picture, "saturation", f) for f in (0.5, 1.0, 1.5))]
    assert spread == sorted(spread)


def test_noise_has_the_deviation_that_its_level_says() -> None:
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    for level in SUITES["noise"].levels:
        assert changed(grey, "noise", level).std() == pytest.approx(level, rel=0.03)


def test_noise_depends_on_seed_and_image_and_not_on_what_came_before(picture: Image.Image) -> None:
    first = changed(picture, "noise", 5)
    changed(picture, "noise", 10, image_id="b")
    assert np.array_equal(first, changed(picture, "noise", 5))
    assert not np.array_equal(first, changed(picture, "noise", 5, image_id="b"))
    assert not np.array_equal(first, changed(picture, "noise", 5, seed=1))


def test_the_mask_stays_the_same_object_unless_pixels_move(picture: Image.Image) -> None:
    mask = np.zeros((72, 96), np.uint8)
    mask[10:30, 20:60] = 1
    for perturbation in all_perturbations():
        image, same = perturb(picture, mask, perturbation, seed=0, image_id="a")
        assert same is mask
        assert image.size == (96, 72)


def test_half_size_halves_image_and_mask_alike(picture: Image.Image) -> None:
    mask = np.zeros((72, 96), np.uint8)
    mask[10:30, 20:60] = 1
    image, half = perturb(picture, mask, Perturbation("halve", 0.5), seed=0, image_id="a")
    assert image.size == (48, 36)
    assert half is not None
    expected = np.zeros((36, 48), np.uint8)
    expected[5:15, 10:30] = 1
    assert np.array_equal(half, expected)


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 1)),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_a_resized_mask_is_empty_only_if_it_was(mask: np.ndarray[Any, Any], width: int, height: int) -> None:
    resized = resize_mask(mask, (width, height))
    assert resized.shape == (height, width)
    assert set(np.unique(resized)) <= {0, 1}
    assert resized.any() == mask.any()
    assert resized.all() or not mask.all()
