"""Regions are what labelling finds, whatever the mask looks like."""

import cv2
import numpy as np
import pytest

from worker.defakerone.localization import MAX_REGIONS, SPECK, find_regions


def rings() -> np.ndarray:
    """Return rings within rings: every component but the innermost has a hole with another one in it."""
    mask = np.zeros((301, 301), np.uint8)
    for radius in range(140, 10, -12):
        cv2.circle(mask, (150, 150), radius, 1, thickness=3)
    return mask


def blobs(seed: int) -> np.ndarray:
    """Return what a coarse map of random logits looks like at full size."""
    random = np.random.default_rng(seed)
    height, width, cells = (int(n) for n in random.integers((20, 20, 2), (700, 700, 60)))
    coarse = random.normal(random.uniform(-1, 0.5), 1, (cells, cells)).astype(np.float32)
    return (cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR) > 0).view(np.uint8)


def touching_corners() -> np.ndarray:
    return np.kron(np.eye(8, dtype=np.uint8), np.ones((9, 9), np.uint8))


MASKS = {"rings": rings(), "corners": touching_corners(), "noise": blobs(0) ^ 1, "empty": np.zeros((5, 9), np.uint8)}
MASKS |= {f"blobs {seed}": blobs(seed) for seed in range(1, 9)} | {"full": np.ones((3, 4), np.uint8)}


@pytest.mark.parametrize("name", MASKS)
def test_regions_are_the_largest_components_that_are_no_specks(name: str) -> None:
    mask = MASKS[name]
    heat = np.random.default_rng(1).random(mask.shape, dtype=np.float32)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    wanted = [n for n in range(1, count) if stats[n, cv2.CC_STAT_AREA] >= SPECK * mask.size]
    wanted.sort(key=lambda n: -stats[n, cv2.CC_STAT_AREA])
    found = find_regions(mask, heat)
    areas = [region.area_fraction * mask.size for region in found]
    assert areas == pytest.approx([stats[n, cv2.CC_STAT_AREA] for n in wanted[:MAX_REGIONS]])
    by_box = {tuple(stats[n, :4].tolist()): heat[labels == n] for n in wanted}
    for region in found:
        inside = by_box[region.bbox]
        assert (region.mean, region.max) == pytest.approx((inside.mean(), inside.max()), rel=1e-5)
