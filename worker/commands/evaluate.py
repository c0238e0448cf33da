"""`assay evaluate`: measures the detector, or a classical method in its place, on labelled images."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

import click

from worker.commands.runtime import DTYPES, load_model

if TYPE_CHECKING:
    from worker.defakerone.evaluation.evaluate import Evaluation
    from worker.defakerone.evaluation.perturbations import Perturbation
    from worker.defakerone.evaluation.predictors import Prediction, Predictor
    from worker.defakerone.evaluation.summary import Document, Inputs
    from worker.defakerone.manifest import Entry

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)

WIDTH_OF_A_FILE = 140
"""Columns of the tables where the output is no terminal; at 80, intervals would be cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says."""

    manifest: Path
    weights: Path | None
    baseline: str | None
    perturb: bool
    suites: tuple[str, ...]
    json_path: Path | None
    report_path: Path | None
    out: Path | None
    compare: tuple[Path, ...]
    cache: Path | None
    limit: int | None
    draws: int
    seed: int
    batch_size: int
    device: str
    dtype: str


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("--weights", type=FOLDER, help="Checkpoint folder; default: the bundled one.")
@click.option("--baseline", help="Measure a classical method instead: ela, noise, jpeg-grid, jpeg-ghosts, all-ones.")
@click.option("--perturb", is_flag=True, help="Measure again after seven kinds of change at five strengths each.")
@click.option(
    "--suite", "suites", multiple=True, help="Perturb by this suite alone; may be repeated. Implies --perturb."
)
@click.option("--json", "json_path", type=FILE, help="Write everything, image by image, as JSON.")
@click.option(
    "--report", "report_path", type=FILE, help="Write a page with figures, curves and cases, in one HTML file."
)
@click.option("--out", type=FOLDER, help="Write heat maps as ID.heatmap.png (8-bit, upright, 255 = 1).")
@click.option("--compare", type=FILE, multiple=True, help="Set the JSON of another run beside this one; repeatable.")
@click.option("--cache", type=FOLDER, help="Keep measurements here, and use those that are there: resumes a run.")
@click.option("--limit", type=click.IntRange(1), help="Use the first N images of the manifest only.")
@click.option("--draws", type=click.IntRange(2), default=1000, show_default=True, help="Bootstrap draws.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of bootstrap and noise.")
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--dtype", default="auto", show_default=True, type=click.Choice(DTYPES))
def evaluate(**given: Any) -> None:
    """Measure detection and localization on MANIFEST, a JSONL file of labelled images or the folder that holds one.

    Prints tables by data set, domain and operation, every figure with its 95 % bootstrap interval. Exit status: 0, 1
    where an input or the disk failed, 2 on wrong use.
    """
    options = Options(**given)
    _refuse_contradictions(options)
    try:
        _run(options)
    except OSError as error:
        raise click.ClickException(
            f"cannot write {error.filename or 'the results'}: {error.strerror or error}"
        ) from error


def _run(options: Options) -> None:
    from worker.defakerone.manifest import ManifestError, read_manifest
    from worker.defakerone.samples import check_files

    try:
        entries = read_manifest(options.manifest)[: options.limit]
        check_files(entries)
        others = [_read_document(path) for path in options.compare]
        _make_folders(options)
        predictor = _predictor(options)
        _write(options, _measure(options, entries, predictor), predictor, others)
    except ManifestError as error:
        raise click.ClickException(str(error)) from error


def _refuse_contradictions(options: Options) -> None:
    from worker.defakerone.evaluation.baselines import BASELINES
    from worker.defakerone.evaluation.perturbations import IDENTITY, SUITES

    if options.baseline is not None and options.weights is not None:
        raise click.UsageError("--baseline measures a method without weights: leave --weights out")
    if options.baseline is not None and options.baseline not in BASELINES:
        raise click.BadParameter(f"choose one of {', '.join(BASELINES)}", param_hint="--baseline")
    known = [name for name in SUITES if name != IDENTITY]
    if unknown := [name for name in options.suites if name not in known]:
        raise click.BadParameter(f"{unknown[0]!r}: choose among {', '.join(known)}", param_hint="--suite")


def _predictor(options: Options) -> Predictor:
    from worker.defakerone.evaluation.baselines import Baseline

    if options.baseline is not None:
        return Baseline(options.baseline)
    from worker.defakerone.evaluation.model import ModelPredictor

    return ModelPredictor(load_model(options.weights, options.device, options.dtype))


def _measure(options: Options, entries: list[Entry], predictor: Predictor) -> Evaluation:
    from worker.defakerone.evaluation.cache import MeasurementCache
    from worker.defakerone.evaluation.evaluate import evaluate as measure
    from worker.defakerone.evaluation.runner import Runner

    cache = None if options.cache is None else MeasurementCache(options.cache, predictor.identity, seed=options.seed)
    changes = [None, *_perturbations(options)]
    listener = None if options.out is None else _heatmap_writer(options.out)
    runner = Runner(predictor, changes, options.seed, options.batch_size, cache, listener)
    with _progress(len(entries) * len(changes)) as advance:
        return measure(entries, runner, _inputs(options, predictor), advance)


def _inputs(options: Options, predictor: Predictor) -> Inputs:
    from worker.defakerone.evaluation.summary import Inputs

    return Inputs(options.manifest, predictor.identity, options.seed, options.limit, options.draws)


def _perturbations(options: Options) -> list[Perturbation]:
    from worker.defakerone.evaluation.perturbations import all_perturbations

    if options.suites:
        return all_perturbations(tuple(dict.fromkeys(options.suites)))
    return all_perturbations() if options.perturb else []


def _heatmap_writer(out: Path) -> Callable[[Entry, Prediction], None]:
    import numpy as np
    from PIL import Image

    def write(entry: Entry, prediction: Prediction) -> None:
        from io import BytesIO

        from worker.defakerone.replacing import replace_bytes

        file = BytesIO()
        Image.fromarray(np.rint(prediction.heatmap * 255).astype(np.uint8)).save(file, "PNG")
        replace_bytes(out / f"{quote(entry.id, safe='')}.heatmap.png", file.getvalue())

    return write


def _write(options: Options, evaluation: Evaluation, predictor: Predictor, others: list[Document]) -> None:
    from rich.console import Console

    from worker.defakerone.evaluation.cases import choose_cases, draw_cases
    from worker.defakerone.evaluation.report import render_report
    from worker.defakerone.evaluation.summary import write_document
    from worker.defakerone.evaluation.table import print_tables
    from worker.defakerone.replacing import replacing

    document = evaluation.document
    console = Console()
    print_tables(document, others, console if console.is_terminal else Console(width=WIDTH_OF_A_FILE))
    if options.json_path is not None:
        with replacing(options.json_path) as file:
            file.write(write_document(document))
    if options.report_path is not None:
        cases = list(draw_cases(choose_cases(evaluation.results), predictor))
        with replacing(options.report_path) as file:
            file.write(render_report(document, cases, others))


def _read_document(path: Path) -> Document:
    from worker.defakerone.evaluation.summary import SCHEMA

    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        _refuse_comparison(path, str(error))
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        _refuse_comparison(path, f"its schema is not {SCHEMA}")
    return document


def _refuse_comparison(path: Path, why: str) -> NoReturn:
    raise click.ClickException(f"{path}: is no result of `assay evaluate --json` ({why})")


def _make_folders(options: Options) -> None:
    """Make every folder that will be written to, before hours are spent on what could then not be kept."""
    files = [path.parent for path in (options.json_path, options.report_path) if path is not None]
    for folder in [*files, *(path for path in (options.out, options.cache) if path is not None)]:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise click.ClickException(f"{folder}: no permission to write there")


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on the terminal's error stream; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("measuring", total=total)
        yield lambda: bar.advance(task)
