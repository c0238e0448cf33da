"""Each classical method finds the trace that it is named after, in a picture made so that no other trace is there."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from worker.defakerone.evaluation.baselines import BASELINES, Baseline
from worker.defakerone.evaluation.baselines.jpeg_grid import grid_votes
from worker.defakerone.evaluation.baselines.noise import block_noise
from worker.defakerone.evaluation.baselines.outliers import heat, hottest, robust_deviations
from worker.defakerone.evaluation.localization import measure_localization
from worker.defakerone.evaluation.predictors import Prediction

Pixels = np.ndarray[Any, Any]

HEIGHT, WIDTH = 256, 320
REGION = np.s_[64:160, 96:224]


def scenery(seed: int = 0, noise: float = 2.0) -> Pixels:
    """A smooth coloured landscape with camera-like noise, never compressed: (256, 320, 3) uint8."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(40, 210, (9, 11, 3), np.uint8))
    smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
    return np.clip(smooth + random.normal(0, noise, smooth.shape), 0, 255).astype(np.uint8)


def compressed(pixels: Pixels, quality: int) -> Pixels:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0)
    return np.asarray(Image.open(file).convert("RGB"))


def pasted(background: Pixels, patch: Pixels) -> tuple[Image.Image, Pixels]:
    forged, mask = background.copy(), np.zeros((HEIGHT, WIDTH), np.uint8)
    forged[REGION], mask[REGION] = patch[REGION], 1
    return Image.fromarray(forged), mask


def shifted_grid() -> tuple[Image.Image, Pixels]:
    """A JPEG with a piece of itself whose blocks begin three rows and five columns off the grid."""
    scene = np.pad(scenery(), [(3, 0), (5, 0), (0, 0)], mode="symmetric")
    return pasted(compressed(scene[3:, 5:], 80), compressed(scene, 80)[3:, 5:])


def louder_patch() -> tuple[Image.Image, Pixels]:
    """A picture of which one region has three times the noise."""
    return pasted(scenery(noise=2.0), scenery(noise=6.0))


def uncompressed_patch() -> tuple[Image.Image, Pixels]:
    """A JPEG of quality 60 into which a region that was never compressed is pasted."""
    return pasted(compressed(scenery(), 60), scenery())


def ghost_patch() -> tuple[Image.Image, Pixels]:
    """A picture that holds a region once saved at quality 60, the whole saved at 95: Farid's example."""
    forged, mask = pasted(scenery(noise=4.0), compressed(scenery(noise=4.0), 60))
    return Image.fromarray(compressed(np.asarray(forged), 95)), mask


@pytest.mark.parametrize(
    ("name", "forge", "least_auc"),
    [
        ("jpeg-grid", shifted_grid, 0.95),
        ("noise", louder_patch, 0.95),
        ("ela", uncompressed_patch, 0.95),
        ("jpeg-ghosts", ghost_patch, 0.85),
    ],
)
def test_a_method_finds_its_own_trace(
    name: str, forge: Callable[[], tuple[Image.Image, Pixels]], least_auc: float
) -> None:
    image, mask = forge()
    auc = measure_localization(predict(name, image).heatmap, mask).auc
    assert auc is not None
    assert auc >= least_auc


def test_the_grid_method_is_sure_of_a_shifted_grid_and_has_no_false_alarm_without_one() -> None:
    image, mask = shifted_grid()
    found = predict("jpeg-grid", image)
    assert found.score > 0.9
    assert measure_localization(found.heatmap, mask).f1_at_half > 0.85
    for seed in range(5):
        authentic = predict("jpeg-grid", Image.fromarray(compressed(scenery(seed), 80)))
        assert authentic.score < 0.5
        assert (authentic.heatmap < 0.5).all()


@pytest.mark.parametrize("origin", [(0, 0), (3, 5), (7, 1)])
def test_grid_votes_name_the_true_origin(origin: tuple[int, int]) -> None:
    down, right = origin
    padded = np.pad(scenery(), [(8 - down, 0), (8 - right, 0), (0, 0)], mode="symmetric")
    seen = compressed(padded, 75)[8 - down :, 8 - right :]
    votes = grid_votes(np.asarray(Image.fromarray(seen).convert("L"), np.float32))
    cast = votes[votes >= 0]
    assert np.bincount(cast, minlength=64).argmax() == 8 * down + right
    assert (cast == 8 * down + right).mean() > 0.8


def test_a_vote_is_that_of_the_block_with_most_zeros_by_the_definition() -> None:
    """One pixel after the other, with SciPy's DCT."""
    picture = compressed(scenery(noise=4.0), 85)[40:64, 32:58].copy()
    picture[:, 20:] = 77  # blocks without any change along a side abstain
    grey = np.asarray(Image.fromarray(picture).convert("L"), np.float32)
    blocks = {(y, x): grey[y : y + 8, x : x + 8] for y, x in np.ndindex(grey.shape[0] - 7, grey.shape[1] - 7)}
    zeros = {at: zeros_of(block) for at, block in blocks.items()}
    expected = np.full(grey.shape, -1)
    for row, column in np.ndindex(grey.shape):
        around = {at: n for at, n in zeros.items() if at[0] <= row < at[0] + 8 and at[1] <= column < at[1] + 8}
        most = [at for at, n in around.items() if n == max(around.values())]
        if len(most) == 1 and np.ptp(blocks[most[0]], axis=0).any() and np.ptp(blocks[most[0]], axis=1).any():
            expected[row, column] = 8 * (most[0][0] % 8) + most[0][1] % 8
    assert (expected >= 0).mean() > 0.5
    assert np.array_equal(grid_votes(grey), expected)


def zeros_of(block: Pixels) -> int:
    small = np.abs(dctn(block.astype(float), norm="ortho")).round(3) < 0.5
    return int(small.sum()) - int(small[0, 0])


def test_the_noise_of_a_block_is_estimated_in_grey_levels() -> None:
    random = np.random.default_rng(1)
    ramp = np.add.outer(np.arange(128.0), np.arange(160.0))
    for deviation in (1.0, 4.0):
        noisy = (ramp + random.normal(0, deviation, ramp.shape)).astype(np.float32)
        assert np.median(block_noise(noisy)) == pytest.approx(deviation, rel=0.1)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (7, 40), (17, 16), (64, 48)])
def test_a_heat_map_has_the_image_s_size_and_lies_in_0_to_1(name: str, size: tuple[int, int]) -> None:
    random = np.random.default_rng(2)
    for pixels in (
        random.integers(0, 256, (size[1], size[0], 3), np.uint8),
        np.full((size[1], size[0], 3), 255, np.uint8),
    ):
        found = predict(name, Image.fromarray(pixels))
        assert found.heatmap.shape == (size[1], size[0])
        assert found.heatmap.dtype == np.float32
        assert np.isfinite(found.heatmap).all()
        assert 0 <= found.heatmap.min() <= found.heatmap.max() <= 1
        assert 0 <= found.score <= 1


def test_a_flat_image_raises_no_suspicion_in_any_method_but_the_trivial_one() -> None:
    flat = Image.new("RGB", (64, 64), (90, 120, 30))
    for name in BASELINES:
        if name != "all-ones":
            assert predict(name, flat).score < 0.5, name
    assert predict("all-ones", flat).heatmap.min() == 1


def test_heat_keeps_the_order_of_the_evidence_and_is_one_half_at_the_border() -> None:
    evidence = np.array([-1000, -3, 0, 3, 3.01, 50, 1000], np.float32)
    hot = heat(evidence, border=3, scale=3)
    assert (np.diff(hot) > 0).all()
    assert hot[3] == 0.5


def test_robust_deviations_ignore_the_outliers_that_they_measure() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(5, 2, 9000), np.full(1000, 25)]).astype(np.float32)
    deviations = robust_deviations(values)
    assert deviations[-1] == pytest.approx(10, rel=0.2)
    assert hottest(np.linspace(0, 1, 101, dtype=np.float32)) == 1.0


def predict(name: str, image: Image.Image) -> Prediction:
    (prediction,) = Baseline(name).predict([image])
    return prediction
