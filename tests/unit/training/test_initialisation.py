"""A model that starts from nothing starts as a reader of residuals."""

import pytest
import torch
from torch import nn

from worker.defakerone.config import DEFAKERONE_SMALL
from worker.defakerone.model import Network
from worker.defakerone.training.initialisation import (
    CELL,
    CONSTANT,
    CONSTANT_CHANNELS,
    local_filters,
    start_distances,
    start_forensic,
    start_local,
)


def pictures() -> torch.Tensor:
    """Eight pictures of noise over a slope: (8, 3, 128, 128)."""
    generator = torch.Generator().manual_seed(4)
    slope = torch.linspace(-1, 1, 128).expand(8, 3, 128, 128)
    return slope + 0.1 * torch.randn(8, 3, 128, 128, generator=generator)


def test_a_local_filter_sees_one_cell_and_every_cell_is_seen_by_the_same_kernels() -> None:
    filters = local_filters(8, 56)
    assert filters.shape == (56, 3, 8, 8)
    cells = filters.reshape(14, 4, 3, 8 // CELL, CELL, 8 // CELL, CELL).transpose(4, 5).abs().sum((2, 5, 6)) > 0
    assert torch.equal(cells.flatten(2), torch.eye(4, dtype=torch.bool).expand(14, 4, 4))
    first, last = filters[::4, :, :CELL, :CELL], filters[3::4, :, CELL:, CELL:]
    torch.testing.assert_close(first, last)


@pytest.mark.parametrize(("side", "limit"), [(14, 900), (8, 27), (16, 13), (4, 13)])
def test_local_filters_fit_any_patch_and_any_width(side: int, limit: int) -> None:
    filters = local_filters(side, limit)
    assert filters.shape[1:] == (3, side, side)
    assert 0 < len(filters) <= limit
    assert (filters.flatten(1).norm(dim=1) > 0.9).all()


def test_local_filters_do_not_see_brightness_and_do_not_see_the_same_twice() -> None:
    filters = local_filters(8, 56)
    torch.testing.assert_close(filters.sum((-1, -2)), torch.zeros(56, 3), atol=1e-6, rtol=0)
    assert torch.linalg.matrix_rank(filters.flatten(1)) == 56


def test_patches_start_with_channels_that_are_equally_loud_beside_constant_ones() -> None:
    convolution = nn.Conv2d(3, 64, 8, 8)
    assert start_local(convolution, pictures()) == 56
    seen = convolution(pictures())
    torch.testing.assert_close(seen[:, :CONSTANT_CHANNELS], torch.full_like(seen[:, :CONSTANT_CHANNELS], CONSTANT))
    loudness = seen[:, CONSTANT_CHANNELS:].std((0, 2, 3))
    torch.testing.assert_close(loudness, torch.ones_like(loudness), atol=1e-3, rtol=0)


def test_the_first_layer_starts_with_both_signs_of_every_local_channel() -> None:
    layer = nn.Linear(64, 192)
    nn.init.zeros_(layer.bias)
    start_distances(layer, first=2, count=56)
    state = torch.randn(5, 64)
    there, back = layer(state), layer(-state)
    torch.testing.assert_close(there[:, :112:2], back[:, 1:112:2])
    quiet = torch.zeros(1, 64)
    quiet[0, 63] = 1  # a broad channel: in none of the rows that were set
    assert not layer(quiet)[:, :112].any()
    assert layer(quiet)[:, 112:].any()


def test_noise_is_told_apart_before_anything_is_learned() -> None:
    """How loud the local channels are tells a noisy patch from a smooth one."""
    network = Network(DEFAKERONE_SMALL, 5, 6)
    start_forensic(network, pictures())
    patches = network.vision_tower.embeddings.patch_embeddings.projection
    smooth = torch.linspace(-1, 1, 128).expand(1, 3, 128, 128)
    noisy = smooth + 0.2 * torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    loud = [patches(picture)[:, CONSTANT_CHANNELS : CONSTANT_CHANNELS + 56].abs().mean() for picture in (smooth, noisy)]
    assert loud[1] > 5 * loud[0]
