"""Over which parts of a manifest are metrics told?

All of it, each data set, each domain and each operation; and the paper's domain means. The parts of an operation hold
its fakes and, for something to tell them from, the authentic images of the data sets in which it occurs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from worker.defakerone.evaluation.bootstrap import (
    DRAWS,
    Estimate,
    Statistic,
    estimate,
    estimate_metrics,
    mean_of_defined,
    mean_over_data_sets,
)
from worker.defakerone.evaluation.metrics import Floats, MeasuredImages, best_threshold
from worker.defakerone.evaluation.results import ImageResult, tabulate
from worker.defakerone.manifest import Entry

Rows = NDArray[np.int64]
OVERALL = "overall"


@dataclass(frozen=True, slots=True)
class Slice:
    """The metrics of some images. `fakes + authentic` images in `scenes` independent scenes, `masks` with a mask."""

    name: str
    fakes: int
    authentic: int
    masks: int
    scenes: int
    best_threshold: float | None
    metrics: dict[str, Estimate]


@dataclass(frozen=True, slots=True)
class Slices:
    """Every part of a manifest, by name. `domain_means` average data sets inside a domain, then (`overall`) domains."""

    overall: Slice
    data_sets: dict[str, Slice]
    domains: dict[str, Slice]
    operations: dict[str, Slice]
    domain_means: dict[str, dict[str, Estimate]]


def slice_results(results: Sequence[ImageResult], *, seed: int, draws: int = DRAWS) -> Slices:
    """Compute every metric with its interval for every part; raises ValueError without results."""
    if not results:
        raise ValueError("there is nothing to summarise: no image was measured")
    images = tabulate(results)
    entries = [result.entry for result in results]

    def parts(kind: str, rows_of: Callable[[str], Rows], names: set[str]) -> dict[str, Slice]:
        return {
            name: _slice(name, images.take(rows_of(name)), f"{kind}/{name}", seed=seed, draws=draws)
            for name in sorted(names)
        }

    return Slices(
        overall=_slice(OVERALL, images, OVERALL, seed=seed, draws=draws),
        data_sets=parts(
            "data_set", lambda name: _rows(entries, partial(_has, "source", name)), _names(entries, "source")
        ),
        domains=parts("domain", lambda name: _rows(entries, partial(_has, "domain", name)), _names(entries, "domain")),
        operations=parts("operation", lambda name: operation_rows(entries, name), _operations(entries)),
        domain_means=_domain_means(images, entries, seed=seed, draws=draws),
    )


def overall_slice(results: Sequence[ImageResult], *, seed: int, draws: int, name: str) -> Slice:
    """The metrics over all images alone; `name` decides the draws."""
    return _slice(OVERALL, tabulate(results), name, seed=seed, draws=draws)


def operation_rows(entries: Sequence[Entry], operation: str) -> Rows:
    """The fakes of an operation and the authentic images of their data sets."""
    sources = {entry.source for entry in entries if entry.is_fake and entry.operation == operation}
    return _rows(entries, lambda e: e.operation == operation if e.is_fake else e.source in sources)


def _slice(name: str, images: MeasuredImages, draw_name: str, *, seed: int, draws: int) -> Slice:
    fakes = int(images.truth.sum())
    return Slice(
        name=name,
        fakes=fakes,
        authentic=len(images) - fakes,
        masks=int((~np.isnan(images.pixel_f1[:, 0])).sum()),
        scenes=len(np.unique(images.scene)),
        best_threshold=best_threshold(images),
        metrics=estimate_metrics(images, name=draw_name, seed=seed, draws=draws),
    )


def _domain_means(
    images: MeasuredImages, entries: Sequence[Entry], *, seed: int, draws: int
) -> dict[str, dict[str, Estimate]]:
    rows = {name: _rows(entries, partial(_has, "domain", name)) for name in sorted(_names(entries, "domain"))}

    def mean_over_domains(table: MeasuredImages, weights: Floats) -> Floats:
        return mean_of_defined([mean_over_data_sets(table.take(part), weights[:, part]) for part in rows.values()])

    def means(table: MeasuredImages, statistic: Statistic, name: str) -> dict[str, Estimate]:
        return estimate(table, statistic, name=f"means/{name}", seed=seed, draws=draws)

    inside = {name: means(images.take(part), mean_over_data_sets, name) for name, part in rows.items()}
    return {**inside, OVERALL: means(images, mean_over_domains, OVERALL)}


def _rows(entries: Sequence[Entry], belongs: Callable[[Entry], bool]) -> Rows:
    return np.array([row for row, entry in enumerate(entries) if belongs(entry)], dtype=np.int64)


def _has(attribute: str, value: str, entry: Entry) -> bool:
    return bool(getattr(entry, attribute) == value)


def _names(entries: Sequence[Entry], attribute: str) -> set[str]:
    return {str(getattr(entry, attribute)) for entry in entries}


def _operations(entries: Sequence[Entry]) -> set[str]:
    return {entry.operation for entry in entries if entry.is_fake}
