"""How are several ways compared on a machine whose speed changes from minute to minute? They take turns.

Every way is measured once a round, one after the other, so that a slow minute slows all of them. A ratio is taken
within each round; what is reported is the median of the rounds.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click

from worker.defakerone.errors import DetectorError

Task = tuple[str, Callable[[bool], dict[str, Any]]]
"""A row's name, and how it is measured once; given True it warms up before."""

Row = dict[str, Any]
EACH_ROUND = ("images_per_s", "cpu_s_per_image")


def take_turns(tasks: Sequence[Task], rounds: int, until: float, log: Path | None) -> list[Row]:
    """Measure all, round after round. One that fails (out of memory, a compiler's error) costs the others nothing."""
    rows: list[Row] = [{"name": name, "rounds": []} for name, _ in tasks]
    for number in range(rounds):
        for row, (name, task) in zip(rows, tasks, strict=True):
            if "error" in row or time.perf_counter() >= until:
                continue
            start = time.perf_counter()
            measured = _measured(task, number == 0)
            _note(row, measured, time.perf_counter() - start)
            said = row.get("error") or f"{measured['images_per_s']:.2f} images/s"
            click.echo(f"round {number + 1}, {name}: {said}", err=True)
            if log is not None:
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"round": number + 1, "name": name, **measured}) + "\n")
    return [_summed(row) for row in rows]


def _measured(task: Callable[[bool], Row], first: bool) -> Row:
    try:
        return task(first)
    except (RuntimeError, DetectorError) as error:  # torch.OutOfMemoryError and the compiler's are RuntimeErrors
        return {"error": f"{type(error).__name__}: {error}"[:2000]}


def _note(row: Row, measured: Row, seconds: float) -> None:
    row["seconds_in_all"] = row.get("seconds_in_all", 0.0) + seconds
    row |= {key: value for key, value in measured.items() if key not in EACH_ROUND}
    if "error" not in measured:
        row["rounds"].append({key: measured[key] for key in EACH_ROUND})


def _summed(row: Row) -> Row:
    """Take the median of the rounds; a row without any is in error."""
    if "error" not in row and not row["rounds"]:
        row["error"] = "not begun: no time left"
    if "error" not in row:
        row |= {key: median(one[key] for one in row["rounds"]) for key in EACH_ROUND}
    return row


def compare(rows: Sequence[Row], to: str) -> None:
    """Give every row its `ratio` to the rows whose name starts with `to`, in every round to the fastest of them."""
    measured = [row for row in rows if "error" not in row]
    opponents = [[_speed(one) for one in row["rounds"]] for row in measured if row["name"].startswith(to)]
    fastest = [max(speeds) for speeds in zip(*opponents, strict=False)]
    for row in measured:
        row["ratios"] = [_speed(ours) / best for ours, best in zip(row["rounds"], fastest, strict=False)]
        row["ratio"] = median(row["ratios"]) if row["ratios"] else None


def _speed(row: Row) -> float:
    return float(row["images_per_s"])
