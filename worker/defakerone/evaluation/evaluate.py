"""How does one measure a predictor on a manifest, from a command or from other code?

entries = read_manifest(path)
evaluation = evaluate(entries, ModelPredictor(model), Inputs(path, predictor.identity, seed=0))
evaluation.document["overall"]["metrics"]["pixel_f1"]
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker.defakerone.evaluation.perturbations import Perturbation
from worker.defakerone.evaluation.predictors import Predictor
from worker.defakerone.evaluation.results import ImageResult
from worker.defakerone.evaluation.runner import Outcome, Runner
from worker.defakerone.evaluation.summary import Document, Inputs, summarise
from worker.defakerone.manifest import Entry


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The document, and the results on unchanged images that it was made from."""

    document: Document
    results: list[ImageResult]


def evaluate(
    entries: Sequence[Entry],
    runner: Runner,
    inputs: Inputs,
    advance: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Run `runner` over the entries and summarise; `advance` is called after each image and change.

    Raises ManifestError naming the file that could not be used; `check_files` finds most of them beforehand.
    """
    plain: list[ImageResult] = []
    perturbed: dict[Perturbation, list[ImageResult]] = {change: [] for change in runner.changes if change is not None}
    for outcome in runner.run(entries):
        _collect(outcome, plain, perturbed)
        advance()
    return Evaluation(summarise(inputs, plain, perturbed or None), plain)


def measure_with(predictor: Predictor, entries: Sequence[Entry], inputs: Inputs) -> Document:
    """The document alone, without perturbations, cache or files: for studies and for validation while training."""
    return evaluate(entries, Runner(predictor, seed=inputs.seed), inputs).document


def _collect(outcome: Outcome, plain: list[ImageResult], perturbed: dict[Perturbation, list[ImageResult]]) -> None:
    (plain if outcome.change is None else perturbed[outcome.change]).append(outcome.result)
