"""What does one evaluation say, as a document that machines read and that two equal runs write alike?

The document has no date, no duration and no machine in it; floats are rounded to nine decimals, below which the order
of a sum may show. Its shape is `schema.json` beside this file.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from worker.defakerone.evaluation.bootstrap import DRAWS, LEVEL
from worker.defakerone.evaluation.calibration import BINS
from worker.defakerone.evaluation.curves import draw_curves
from worker.defakerone.evaluation.metrics import DECISION_THRESHOLD
from worker.defakerone.evaluation.perturbations import IDENTITY, SUITES, Perturbation
from worker.defakerone.evaluation.results import ImageResult, tabulate
from worker.defakerone.evaluation.slices import Slice, overall_slice, slice_results
from worker.defakerone.manifest import WORD_OF_LABEL

SCHEMA = "assay.evaluation/1"
DECIMALS = 9

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was evaluated: a manifest, the number of its entries that were used, a predictor's identity, a seed."""

    manifest: Path
    predictor: Mapping[str, Any]
    seed: int
    limit: int | None = None
    draws: int = DRAWS


def summarise(
    inputs: Inputs,
    results: Sequence[ImageResult],
    perturbed: Mapping[Perturbation, Sequence[ImageResult]] | None = None,
) -> Document:
    """Build the whole document; `results` are sorted by id, so the order in which they came does not matter."""
    results = sorted(results, key=lambda result: result.entry.id)
    slices = slice_results(results, seed=inputs.seed, draws=inputs.draws)
    document: Document = {
        "schema": SCHEMA,
        "manifest": _manifest(inputs, results),
        "predictor": dict(inputs.predictor),
        "protocol": _protocol(inputs),
        "overall": _slice(slices.overall),
        "data_sets": {name: _slice(part) for name, part in slices.data_sets.items()},
        "domains": {name: _slice(part) for name, part in slices.domains.items()},
        "operations": {name: _slice(part) for name, part in slices.operations.items()},
        "domain_means": {
            name: {metric: asdict(value) for metric, value in metrics.items()}
            for name, metrics in slices.domain_means.items()
        },
        "curves": _curves(results),
        "perturbations": None if perturbed is None else _perturbations(inputs, perturbed),
        "images": [_image(result) for result in results],
    }
    rounded: Document = _rounded(document)
    return rounded


def write_document(document: Document) -> str:
    """The document as text, the same for the same document."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _manifest(inputs: Inputs, results: Sequence[ImageResult]) -> Document:
    path = inputs.manifest / "manifest.jsonl" if inputs.manifest.is_dir() else inputs.manifest
    return {
        "name": path.name if path.parent.name == "" else f"{path.parent.name}/{path.name}",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "images": len(results),
        "limit": inputs.limit,
    }


def _protocol(inputs: Inputs) -> Document:
    return {
        "decision_threshold": DECISION_THRESHOLD,
        "pixel_threshold": 0.5,
        "calibration_bins": BINS,
        "bootstrap": {
            "draws": inputs.draws,
            "level": LEVEL,
            "unit": "scene",
            "strata": "data set",
            "seed": inputs.seed,
        },
        "pixel_metrics": "mean over fake images with a mask, each at its full size",
        "image_auc_pooled": "mean of the data sets' AUCs weighted by positives x negatives",
    }


def _slice(part: Slice) -> Document:
    return {
        "n": part.fakes + part.authentic,
        "fakes": part.fakes,
        "authentic": part.authentic,
        "masks": part.masks,
        "scenes": part.scenes,
        "best_pixel_threshold": part.best_threshold,
        "metrics": {name: asdict(value) for name, value in part.metrics.items()},
    }


def _curves(results: Sequence[ImageResult]) -> Document:
    sources = sorted({result.entry.source for result in results})
    parts = {source: [result for result in results if result.entry.source == source] for source in sources}
    return {
        "overall": asdict(draw_curves(tabulate(results))),
        "data_sets": {source: asdict(draw_curves(tabulate(part))) for source, part in parts.items()},
    }


def _perturbations(inputs: Inputs, perturbed: Mapping[Perturbation, Sequence[ImageResult]]) -> Document:
    levels = {
        change: _slice(
            overall_slice(
                sorted(results, key=lambda result: result.entry.id),
                seed=inputs.seed,
                draws=inputs.draws,
                name="overall",  # the draws of the unperturbed images: levels differ by the change alone
            )
        )
        for change, results in perturbed.items()
    }
    suites = sorted({change.suite for change in levels} - {IDENTITY})
    return {
        "identity": next((part for change, part in levels.items() if change.suite == IDENTITY), None),
        "suites": {
            suite: {
                "unit": SUITES[suite].unit,
                "levels": [{"level": change.level, **part} for change, part in levels.items() if change.suite == suite],
                "mean": _mean_over_levels([part for change, part in levels.items() if change.suite == suite]),
            }
            for suite in suites
        },
    }


def _mean_over_levels(parts: Sequence[Document]) -> dict[str, float | None]:
    names = parts[0]["metrics"]
    values = {name: [part["metrics"][name]["value"] for part in parts] for name in names}
    return {name: None if None in of else math.fsum(of) / len(of) for name, of in values.items()}


def _image(result: ImageResult) -> Document:
    entry, measured = result.entry, result.measured
    found = measured.localization
    return {
        "id": entry.id,
        "label": WORD_OF_LABEL[entry.label],
        "data_set": entry.source,
        "domain": entry.domain,
        "operation": entry.operation,
        "group": entry.group,
        "width": measured.width,
        "height": measured.height,
        "score": measured.score,
        "probability": measured.probability,
        "verdict": measured.verdict,
        "area_fraction": measured.area,
        "pixel_f1": None if found is None else found.f1_at_half,
        "pixel_f1_best": None if found is None else float(found.f1.max()),
        "pixel_iou": None if found is None else found.iou_at_half,
        "pixel_auc": None if found is None else found.auc,
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return value
