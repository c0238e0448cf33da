"""Studies: each analysis changes one thing, trains every variant, and ends in a plot."""

from dataclasses import replace
from pathlib import Path

import pytest

from worker.defakerone.training import study
from worker.defakerone.training.settings import Run, read_run
from worker.defakerone.training.study import STUDIES, run_study

TOKENIZER = Path(__file__).parents[2] / "fixtures" / "defakerone" / "checkpoint"


@pytest.fixture
def run(manifest: Path) -> Run:
    base = read_run("tiny", {"manifest": str(manifest), "tokenizer": str(TOKENIZER), "seed": 3})
    stages = tuple(replace(stage, steps=1, validate_every=1) for stage in base.stages if stage.branch == "joint")
    return replace(base, stages=stages)


@pytest.mark.parametrize("kind", ["scaling", "supervision"])
def test_a_study_trains_every_variant_and_ends_in_a_plot(kind: str, run: Run, tmp_path: Path) -> None:
    rows = run_study(kind, run, tmp_path)
    assert len(rows) == len(STUDIES[kind](run)) >= 2
    assert all("image_auc" in row["scores"] for row in rows)
    assert (tmp_path / f"{kind}.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "results.json").exists()


def test_growing_subsets_hold_the_smaller_ones(run: Run) -> None:
    sizes = [variant.run.limit for variant in STUDIES["scaling"](run)]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == study.source_count(run)


def test_transfer_trains_each_domain_alone_and_every_pair() -> None:
    run = read_run("small", {"photos": "photos"})
    labels = [variant.run.domains for variant in STUDIES["transfer"](run)]
    assert [len(names) for names in labels] == [1] * 4 + [2] * 6
    for variant in STUDIES["transfer"](run):
        shares = dict(variant.run.recipe.domains)
        assert {name for name, share in shares.items() if share} == set(variant.run.domains)


def test_the_resolution_study_changes_nothing_but_the_tiles(run: Run) -> None:
    tiles, downsized = STUDIES["resolution"](run)
    assert replace(downsized.run, max_tiles=None) == tiles.run
    assert downsized.run.max_tiles == 1
