"""Copies as correspondences: where a cell's double lies, through mirrors and grids, and what finding it costs."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional as F

from worker.defakerone.attention import BlockAttention
from worker.defakerone.config import DEFAKERONE_SMALL
from worker.defakerone.grounding import build_grounding
from worker.defakerone.training.auxiliary import coarser
from worker.defakerone.training.forgery.operations import copy_move
from worker.defakerone.training.forgery.photos import Pixels
from worker.defakerone.training.forgery.synthesis import Sample
from worker.defakerone.training.initialisation import start_positions
from worker.defakerone.training.losses import bilinear_cells, correspondence_loss
from worker.defakerone.training.sources import RepeatedSource
from worker.defakerone.training.views import find_doubles, turn

SEED, SIDE, CELLS = 20261123, 256, 32


def _copied(number: int) -> Sample:
    """A picture of smooth noise with one copy in it."""
    rng = np.random.default_rng((SEED, number))
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, SIDE // 8, SIDE // 8)))
    fine = F.interpolate(coarse, (SIDE, SIDE), mode="bicubic")[0].permute(1, 2, 0).clamp(0, 255)
    edit = copy_move(rng, np.ascontiguousarray(fine.numpy().astype(np.uint8)))
    return Sample(edit.pixels, edit.mask, True, "nature", "copy-move", ("p",), edit.sources)


def _likeness(pixels: Pixels, doubles: npt.NDArray[Any]) -> tuple[float, float]:
    """Mean difference between what cells show and what their doubles show; and the same for doubles moved away."""
    picture = torch.from_numpy(np.ascontiguousarray(pixels)).float().permute(2, 0, 1)[None]
    smooth = F.avg_pool2d(picture, 5, 1, 2)[0]
    field = torch.from_numpy(np.array(doubles))
    rows, columns = torch.nonzero(field[..., 0] >= 0, as_tuple=True)
    here = smooth[:, rows * 8 + 4, columns * 8 + 4]
    places = (field[rows, columns] * SIDE).long().clamp(0, SIDE - 1)
    there = smooth[:, places[:, 1], places[:, 0]]
    elsewhere = smooth[:, (places[:, 1] + 37) % SIDE, places[:, 0]]
    return float((here - there).abs().mean()), float((here - elsewhere).abs().mean())


def test_a_double_shows_what_its_cell_shows_however_the_view_is_turned() -> None:
    print(f"seed {SEED}")
    checked, alike = 0, 0
    for number in range(40):
        sample = _copied(number)
        field = find_doubles(sample, CELLS)
        if len(sample.sources) != 1 or np.count_nonzero(field >= 0) < 40:
            continue
        for views in range(3):
            rng = np.random.default_rng((SEED, number, views))
            pixels, _, doubles = turn(rng, sample.pixels, sample.mask, field, upright=False)
            same, other = _likeness(pixels, doubles)
            checked += 1
            alike += same < 0.5 * other
    assert checked > 20
    assert alike >= 0.8 * checked  # a recoloured copy differs


def test_a_picture_without_copies_has_doubles_nowhere_and_several_copies_leave_them_unknown() -> None:
    sample = _copied(0)
    single = Sample(sample.pixels, sample.mask, True, "nature", "splice", ("p",))
    assert (find_doubles(single, CELLS) == -1).all()
    twice = Sample(sample.pixels, sample.mask, True, "nature", "copy-move", ("p",), (np.eye(3), np.eye(3)))
    assert np.isnan(find_doubles(twice, CELLS)).all()


def test_a_coarser_grid_knows_a_double_only_where_all_its_cells_agree() -> None:
    field = torch.full((1, 4, 4, 2), -1.0)
    field[0, :2, :2] = torch.tensor([0.6, 0.4])
    field[0, 0, 2] = torch.tensor([0.5, 0.5])
    field[0, 3, 0] = torch.nan
    coarse = coarser(field, 2)
    assert torch.allclose(coarse[0, 0, 0], torch.tensor([0.6, 0.4]))
    assert torch.isnan(coarse[0, 0, 1]).all()
    assert torch.isnan(coarse[0, 1, 0]).all()
    assert (coarse[0, 1, 1] == -1).all()


def test_finding_every_double_costs_nothing_and_looking_elsewhere_costs_much() -> None:
    places = torch.eye(16)
    double = torch.arange(16).roll(8)  # every cell's double lies two rows further
    keys = 60 * places[None].reshape(1, 4, 4, 16)
    queries = places[double].reshape(1, 4, 4, 16)
    index = torch.arange(16)
    centre = torch.stack([(index % 4 + 0.5) / 4, (index // 4 + 0.5) / 4], -1)
    field = centre[double].reshape(1, 4, 4, 2)
    values = torch.zeros(1, 4, 4, 16)
    found = correspondence_loss(torch.cat([queries, keys, values], -1), 1, field)
    missed = correspondence_loss(torch.cat([keys / 60, keys, values], -1), 1, field)
    unknown = correspondence_loss(torch.cat([keys / 60, keys, values], -1), 1, torch.full_like(field, torch.nan))
    assert found < 1e-4
    assert missed > 5
    assert unknown == 0


def test_the_four_cells_around_a_place_average_to_it() -> None:
    torch.manual_seed(SEED)
    places = torch.rand(50, 2) * 0.8 + 0.1
    index, share = bilinear_cells(places, 8, 8)
    centres = torch.stack([(index % 8 + 0.5) / 8, (index // 8 + 0.5) / 8], -1)
    assert torch.allclose((centres * share[..., None]).sum(1), places, atol=1e-6)


class _Numbered:
    """A source whose pictures are called by their number; it counts how many it has drawn."""

    def __init__(self) -> None:
        self.drawn = 0

    def draw(self, index: int) -> Sample:
        self.drawn += 1
        return Sample(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8), False, "nature", "none", (str(index),))


def test_pictures_come_back_among_others_and_a_later_start_sees_the_same() -> None:
    numbered = _Numbered()
    source = RepeatedSource(numbered, times=3, stretch=10)
    seen = [_number(source, index) for index in range(60)]
    assert numbered.drawn == 20
    assert sorted(seen[:30]) == sorted(list(range(10)) * 3)
    assert len(set(seen[:5])) > 1
    later = RepeatedSource(_Numbered(), times=3, stretch=10)
    assert [_number(later, index) for index in range(17, 60)] == seen[17:]


def _number(source: RepeatedSource, index: int) -> int:
    sample = source.draw(index)
    assert isinstance(sample, Sample)
    return int(sample.photo_ids[0])


@pytest.mark.parametrize("keys", [64, 1200])
def test_attention_in_blocks_passes_the_same_gradients_as_torchs_own(keys: int) -> None:
    torch.manual_seed(SEED)
    query, key, value = (torch.randn(2, 3, keys, 16, requires_grad=True) for _ in range(3))
    weight = torch.randn(2, 3, keys, 16)
    expected = F.scaled_dot_product_attention(query, key, value)
    wanted = torch.autograd.grad((expected * weight).sum(), (query, key, value))
    out = BlockAttention.apply(query, key, value)  # type: ignore[no-untyped-call]
    found = torch.autograd.grad((out * weight).sum(), (query, key, value))
    assert torch.allclose(out, expected, atol=1e-5)
    for one, two in zip(found, wanted, strict=True):
        assert torch.allclose(one, two, atol=1e-5)


def test_positions_start_as_waves_in_channels_of_their_own() -> None:
    trunk = build_grounding(DEFAKERONE_SMALL.grounding).image_encoder.trunk
    taken = start_positions(trunk)
    assert taken == 8
    assert trunk.pos_embed[0, -taken:].abs().max() > 0.9
    assert not trunk.pos_embed[0, :-taken].any()


def test_the_matching_loss_teaches_a_head_to_find_copies_of_noise() -> None:
    torch.manual_seed(SEED)
    features = torch.randn(1, 64, 24)
    features[:, 32:] = features[:, :32]  # the lower half repeats the upper one
    index = torch.arange(64)
    centre = torch.stack([(index % 8 + 0.5) / 8, (index // 8 + 0.5) / 8], -1)
    field = centre[index.roll(32)].reshape(1, 8, 8, 2)
    places = torch.cat([torch.cos(2 * torch.pi * centre), torch.sin(2 * torch.pi * centre)], -1)[None]
    projection = torch.nn.Linear(28, 3 * 28)
    optimizer = torch.optim.Adam(projection.parameters(), 0.02)
    costs = []
    for _ in range(60):
        cost = correspondence_loss(projection(torch.cat([features, places], -1)).reshape(1, 8, 8, 84), 1, field)
        optimizer.zero_grad()
        cost.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        costs.append(float(cost.detach()))
    assert costs[-1] < 0.3 < 3 < costs[0]
