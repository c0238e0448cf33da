"""Twins: two windows that show the same places, what finding them again costs, and who may learn from them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from worker.defakerone.config import DEFAKERONE_SMALL
from worker.defakerone.grounding import build_grounding
from worker.defakerone.prompt import PromptConfig
from worker.defakerone.tokenizer import Tokenizer
from worker.defakerone.training.auxiliary import find_twins
from worker.defakerone.training.batches import Collate, Views, batches
from worker.defakerone.training.forgery.photos import PhotoLibrary, Pixels
from worker.defakerone.training.forgery.twins import draw_twins
from worker.defakerone.training.losses import twin_loss
from worker.defakerone.training.optimisation import rate_at
from worker.defakerone.training.rows import RowWriter
from worker.defakerone.training.settings import SettingsError, Stage
from worker.defakerone.training.sources import TwinSource
from worker.defakerone.training.views import CELL

SEED, SIDE = 20261128, 128
TOKENIZER = Path(__file__).parents[2] / "fixtures" / "defakerone" / "checkpoint"


@pytest.fixture
def library(photos: Path, tmp_path: Path) -> PhotoLibrary:
    return PhotoLibrary(photos, "all", tmp_path / "cache")


def test_a_second_window_shows_what_the_first_one_shows_where_its_field_says(library: PhotoLibrary) -> None:
    print(f"seed {SEED}")
    alike = checked = 0
    for number in range(30):
        twins = draw_twins(np.random.default_rng((SEED, number)), library, SIDE, CELL)
        first, second = (_smooth(window) for window in (twins.first, twins.second))
        rows, columns = np.nonzero(~np.isnan(twins.field[..., 0]))
        places = (twins.field[rows, columns] * SIDE).astype(int)
        here = first[rows * CELL + CELL // 2, columns * CELL + CELL // 2]
        there = second[places[:, 1], places[:, 0]]
        elsewhere = second[(places[:, 1] + 53) % SIDE, places[:, 0]]
        checked += 1
        alike += np.abs(here - there).mean() < 0.5 * np.abs(here - elsewhere).mean()
    assert alike >= 0.8 * checked  # a recoloured window differs


def _smooth(pixels: Pixels) -> Pixels:
    maps = torch.from_numpy(np.ascontiguousarray(pixels)).float().permute(2, 0, 1)[None]
    return torch.nn.functional.avg_pool2d(maps, 5, 1, 2)[0].permute(1, 2, 0).numpy()


def test_the_same_number_gives_the_same_pair(library: PhotoLibrary) -> None:
    one, two = (TwinSource(library, SEED, SIDE).draw(3) for _ in range(2))
    assert np.array_equal(one.first, two.first)
    assert np.array_equal(one.second, two.second)
    assert np.array_equal(one.field, two.field, equal_nan=True)
    assert not np.array_equal(one.first, TwinSource(library, SEED, SIDE).draw(4).first)


def _windows(passing_over: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Projections of two windows that show sixteen things, the second in another order, and where it shows them.

    Queries ask for what is shown and, by `passing_over`, not for where the first window's own cells lie.
    """
    what, own, elsewhere = 60 * torch.eye(16), torch.eye(16), torch.zeros(16, 16)
    shown_at = torch.arange(16).roll(5)
    there = what[shown_at.argsort()]

    def project(shown: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        parts = (shown, -passing_over * place, shown, place, shown, place)
        return torch.cat(parts, -1).reshape(1, 4, 4, 96)

    centre = torch.stack([(shown_at % 4 + 0.5) / 4, (shown_at // 4 + 0.5) / 4], -1).reshape(1, 4, 4, 2)
    return project(what, own), project(there, elsewhere), centre


def test_finding_every_twin_costs_nothing_and_looking_at_oneself_or_elsewhere_does() -> None:
    first, second, field = _windows(passing_over=900.0)
    assert twin_loss(first, second, 1, field) < 0.36  # keys pass over their own place as well: half of it is theirs
    unsure, other, _ = _windows(passing_over=0.0)
    assert twin_loss(unsure, other, 1, field) == pytest.approx(float(np.log(2)), abs=1e-3)
    assert twin_loss(unsure, other.roll(1, 2), 1, field) > 5


def test_what_the_second_window_does_not_show_is_not_asked_for() -> None:
    first, second, field = _windows(passing_over=900.0)
    assert twin_loss(first, second.roll(1, 2), 1, torch.full_like(field, torch.nan)) == 0


def test_looking_for_twins_teaches_the_trunk_up_to_its_first_global_block_and_no_further(library: PhotoLibrary) -> None:
    torch.manual_seed(SEED)
    stage = Stage(name="twins", branch="mask", source="twins", square=SIDE, batch=3)
    writer = RowWriter(Tokenizer.from_directory(TOKENIZER), PromptConfig(), DEFAKERONE_SMALL.tokens_per_tile)
    views = Views(TwinSource(library, SEED, SIDE), stage, DEFAKERONE_SMALL, writer, SEED, train=True)
    (batch,) = batches(views, Collate(2), 0, 0, stop=1)
    assert batch.twins is not None
    assert batch.doubles is not None
    assert batch.twins.shape == (6, SIDE, SIDE, 3)
    assert batch.squares is None
    trunk = build_grounding(DEFAKERONE_SMALL.grounding).image_encoder.trunk
    loss = find_twins(trunk, batch.twins.permute(0, 3, 1, 2) / 255 - 0.5, batch.doubles)
    loss.backward()  # type: ignore[no-untyped-call]
    finest = min(trunk.global_att_blocks)
    taught = {number for number, block in enumerate(trunk.blocks) if block.norm1.weight.grad is not None}
    assert taught == set(range(finest + 1))
    assert trunk.patch_embed.proj.weight.grad.abs().max() > 0


def test_twins_are_for_the_mask_branch_alone() -> None:
    with pytest.raises(SettingsError, match="mask branch"):
        Stage(name="twins", branch="language", source="twins")


def test_a_stage_by_the_clock_also_warms_up_by_the_clock() -> None:
    stage = Stage(name="s", steps=100_000, minutes=10, warmup=0.1)
    assert rate_at(stage, 5, elapsed=0.05) == pytest.approx(0.5)
    assert rate_at(stage, 500, elapsed=0.1) == pytest.approx(1.0, abs=0.05)
    assert rate_at(stage, 900, elapsed=1.0) == pytest.approx(0.02)
    slow = Stage(name="s", steps=100, warmup=0.1)
    assert rate_at(slow, 4) == pytest.approx(0.5)
    assert rate_at(slow, 10) == pytest.approx(1.0)
