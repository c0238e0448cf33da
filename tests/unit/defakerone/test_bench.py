"""The benchmark compares like with like, and knows where it can run."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from screening.cli import main
from tests.bench.rounds import Task, compare, take_turns
from tests.bench.straightforward import Straightforward
from tests.unit.defakerone.conftest import FIXTURE, PHOTOS, expected, photo
from worker.defakerone import DeFakerOne
from worker.defakerone.attention import _attend_in_blocks, attend_causally
from worker.defakerone.prompt import PromptConfig
from worker.defakerone.tokenizer import TURN_END

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("suffix", ["[SEG]", "Yes, it is edited. [SEG]", "Yes [SEG] and [SEG]"])
def test_the_straightforward_way_gives_the_same_results(model: DeFakerOne, suffix: str) -> None:
    prompted = model.with_metadata(prompt=PromptConfig(suffix=suffix))
    straight = Straightforward(prompted, answer_tokens=8)
    for name, detection in zip(PHOTOS, prompted.detect([photo(name) for name in PHOTOS]), strict=True):
        answer = straight.detect(photo(name))
        assert answer.score == pytest.approx(detection.score, abs=1e-4)
        assert answer.mask.shape == detection.mask.shape
        assert int((answer.mask.numpy() != detection.mask).sum()) <= 30


def test_the_straightforward_way_writes_its_answer_out_as_the_reference_does(model: DeFakerOne) -> None:
    straight = Straightforward(model, answer_tokens=8)
    for name in PHOTOS:
        reference = expected(name)["greedy_ids"].tolist()
        stops = {model.prompt.seg_id, model.tokenizer.id_of(TURN_END)}
        ends = [at + 1 for at, token in enumerate(reference) if token in stops]
        assert straight.detect(photo(name)).ids == reference[: ends[0] if ends else None]


def test_the_straightforward_way_stops_behind_the_end_of_the_turn(model: DeFakerOne) -> None:
    ids = Straightforward(model, answer_tokens=1).detect(photo("landscape")).ids
    straight = Straightforward(model)
    straight._stops.append(ids[0])
    assert straight.detect(photo("landscape")).ids == ids


def test_the_straightforward_way_runs_the_libraries_own_modules_joined_by_nothing_but_the_networks(
    model: DeFakerOne,
) -> None:
    straight = Straightforward(model)
    modules = [*straight.network.modules(), *straight.language.modules()]
    ours = {type(module).__name__ for module in modules if type(module).__module__.startswith("worker.")}
    assert ours <= {"Network", "GroundingModel"}
    fast = {
        type(module).__name__ for module in model.network.modules() if type(module).__module__.startswith("worker.")
    }
    assert ours < fast


@pytest.mark.parametrize("shape", [(3, 2, 70, 8), (1, 1, 700, 16), (130, 2, 64, 8), (2, 4, 257, 8), (1, 1, 1, 4)])
def test_attention_in_blocks_equals_the_fused_kernel(shape: tuple[int, int, int, int]) -> None:
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(shape, generator=generator) for _ in range(3))
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(_attend_in_blocks(q, k, v), wanted, rtol=1e-4, atol=1e-5)
    pooled = _attend_in_blocks(q[:, :, ::2], k, v)  # fewer queries than keys, where Hiera pools them
    torch.testing.assert_close(pooled, wanted[:, :, ::2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1.0, 40.0], ids=["scores that stay small", "scores whose powers would overflow"])
def test_causal_attention_in_blocks_equals_the_fused_kernel(size: float) -> None:
    generator = torch.Generator().manual_seed(4)
    for batch, heads, groups, queries, keys, dim in [
        (2, 4, 2, 300, 307, 32),
        (1, 4, 4, 5, 9, 8),
        (3, 4, 1, 128, 128, 16),
    ]:
        q = torch.randn(batch, queries, heads, dim, generator=generator).transpose(1, 2) * size
        k, v = (torch.randn(batch, groups, keys, dim, generator=generator) for _ in range(2))
        seen = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
        wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, seen, enable_gqa=True)
        torch.testing.assert_close(attend_causally(q, k, v), wanted, rtol=1e-3, atol=2e-4)


def test_attention_in_blocks_bears_scores_whose_powers_would_overflow() -> None:
    generator = torch.Generator().manual_seed(5)
    q, k, v = (torch.randn(2, 2, 300, 16, generator=generator) for _ in range(3))
    wanted = torch.nn.functional.scaled_dot_product_attention(q * 100, k, v)
    torch.testing.assert_close(_attend_in_blocks(q * 100, k, v), wanted, rtol=1e-3, atol=1e-3)


def test_the_detector_benchmark_writes_a_table_and_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    options = ["--images", "2", "--batch", "2", "--rounds", "1", "--mask", "never", "--dtype", "float32"]
    result = CliRunner().invoke(main, ["bench", "detector", "--weights", str(FIXTURE / "checkpoint"), *options])
    assert result.exit_code == 0, result.output
    assert "straightforward" in result.stdout
    data = json.loads((tmp_path / "bench-results" / "detector.json").read_text())
    assert [row["name"] for row in data["rows"]] == [
        "straightforward, float32",
        "one answer token, float32",
        "batch 2",
        "batch 8, masks never",
    ]
    assert all(np.isfinite(row["ratio"]) and row["images_per_s"] > 0 for row in data["rows"])


def test_a_row_that_fails_or_comes_too_late_costs_the_others_nothing(tmp_path: Path) -> None:
    def fail(first: bool) -> dict[str, Any]:
        raise torch.OutOfMemoryError("no room")

    log = tmp_path / "rows.jsonl"
    rows = take_turns([("large", fail), ("small", lambda _: _measured(2.0))], 2, math.inf, log)
    rows += take_turns([("late", lambda _: _measured(2.0))], 2, 0.0, log)
    assert [(row["name"], row.get("error"), row.get("images_per_s")) for row in rows] == [
        ("large", "OutOfMemoryError: no room", None),
        ("small", None, 2.0),
        ("late", "not begun: no time left", None),
    ]
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["round"], line["name"]) for line in logged[:3]] == [(1, "large"), (1, "small"), (2, "small")]


def test_ratios_are_taken_within_a_round_to_the_opponent_that_is_fastest_in_it() -> None:
    tasks = [
        _of_speeds("straightforward, a", 4.0, 1.0, 4.0),
        _of_speeds("straightforward, b", 3.0, 2.0, 3.0),
        _of_speeds("ours", 8.0, 3.0, 9.0),
    ]
    rows = take_turns(tasks, 3, math.inf, None)
    compare(rows, "straightforward")
    assert rows[-1]["ratios"] == [2.0, 1.5, 2.25]
    assert rows[-1]["ratio"] == 2.0


def _of_speeds(name: str, *speeds: float) -> Task:
    left = iter(speeds)
    return name, lambda _: _measured(next(left))


def _measured(speed: float) -> dict[str, Any]:
    return {"images_per_s": speed, "cpu_s_per_image": 1 / speed}


def test_benchmarks_say_that_they_need_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["bench", "all"])
    assert result.exit_code == 2
    assert "checkout" in result.stderr
