"""What does a person see of an evaluation in a terminal?"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

Document = Mapping[str, Any]

DETECTION: Mapping[str, str] = {
    "image_auc": "AUC",
    "image_auc_pooled": "pooled AUC",
    "probability_auc_pooled": "by probability",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
    "image_f1": "F1",
    "ece": "ECE",
}
LOCALIZATION: Mapping[str, str] = {
    "pixel_auc": "AUC",
    "pixel_f1": "F1 at 0.5",
    "pixel_f1_best": "best F1",
    "pixel_f1_all_ones": "all-ones",
    "pixel_iou": "IoU",
    "false_area": "false area",
}
"""Metric -> heading, in the order of the columns; `false_area` is of authentic images, the others of masks."""
COMPARED: Mapping[str, str] = {
    "image_auc_pooled": "pooled image AUC",
    "probability_auc_pooled": "by probability",
    "pixel_auc": "pixel AUC",
    "pixel_f1": "pixel F1 at 0.5",
    "pixel_f1_best": "pixel F1 at best threshold",
    "false_area": "false area",
}
"""The figures by which predictors are set side by side."""
UNDEFINED: Mapping[str, Any] = {"value": None, "low": None, "high": None}
"""Stands in for a figure that an older document does not hold."""


def print_tables(document: Document, others: Sequence[Document], console: Console) -> None:
    """Print everything worth a glance: the parts, the perturbations, and other predictors beside this one."""
    console.print(_parts("Detection", document, ("fakes", "authentic"), DETECTION))
    console.print(_parts("Localization", document, ("masks",), LOCALIZATION))
    if document["perturbations"] is not None:
        console.print(_perturbations(document["perturbations"]))
    console.print(_comparison([document, *others]))


def interval(estimate: Mapping[str, Any], digits: int = 3) -> str:
    """`0.812 [0.771, 0.850]`; a dash where the metric is undefined."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "–"
    return f"{value:.{digits}f}" + ("" if low is None else f" [{low:.{digits}f}, {high:.{digits}f}]")


def name_of(predictor: Mapping[str, Any]) -> str:
    """The predictor's name, with the beginning of its weights' digest where it has weights."""
    digest = predictor.get("weights_sha256")
    return f"{predictor['name']} ({digest[:8]})" if digest else str(predictor["name"])


def _parts(title: str, document: Document, counts: Sequence[str], metrics: Mapping[str, str]) -> Table:
    table = _table(title)
    table.add_column("", overflow="fold", min_width=12)
    for heading in (*counts, *metrics.values()):
        table.add_column(heading, justify="right")
    sections = [{"all images": document["overall"]}, *(document[key] for key in ("data_sets", "domains", "operations"))]
    for section in sections:
        for name, part in section.items():
            numbers = (str(part[key]) for key in counts)
            table.add_row(name, *numbers, *(_stacked(part["metrics"][metric]) for metric in metrics))
        table.add_section()
    return table


def _stacked(estimate: Mapping[str, Any]) -> str:
    """The value above its interval: narrow enough for six columns."""
    if estimate["value"] is None:
        return "–"
    between = "" if estimate["low"] is None else f"\n[dim]{estimate['low']:.2f}–{estimate['high']:.2f}[/dim]"
    return f"{estimate['value']:.3f}{between}"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1))


def _perturbations(perturbations: Document) -> Table:
    metrics = {"image_auc_pooled": "pooled AUC", "pixel_auc": "pixel AUC", "pixel_f1": "pixel F1"}
    table = _table("After perturbation: means over the levels, and the worst level")
    table.add_column("suite")
    for heading in metrics.values():
        table.add_column(heading, justify="right")
        table.add_column("worst", justify="right")
    control = perturbations["identity"]["metrics"]
    table.add_row("identity", *(cell for metric in metrics for cell in (_number(control[metric]["value"]), "")))
    for suite, found in perturbations["suites"].items():
        cells = [
            cell for metric in metrics for cell in (_number(found["mean"][metric]), _worst(found["levels"], metric))
        ]
        table.add_row(suite, *cells)
    return table


def _worst(levels: Sequence[Document], metric: str) -> str:
    values = {level["level"]: level["metrics"][metric]["value"] for level in levels}
    defined = {level: value for level, value in values.items() if value is not None}
    if not defined:
        return "–"
    level = min(defined, key=lambda at: defined[at])
    return f"{defined[level]:.3f} at {level:g}"


def _comparison(documents: Sequence[Document]) -> Table:
    table = _table("Headline figures with 95 % intervals")
    table.add_column("predictor", overflow="fold")
    for heading in COMPARED.values():
        table.add_column(heading, justify="right", overflow="fold")
    for document in documents:
        metrics = document["overall"]["metrics"]
        table.add_row(
            name_of(document["predictor"]), *(interval(metrics.get(metric, UNDEFINED)) for metric in COMPARED)
        )
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
