"""How does one look at an evaluation, keep it, and send it to somebody?

One HTML file that holds everything: the figures with their intervals, curves, bars, and the images that show best what
the detector can do and where it fails. It is made from the evaluation's document and from the cases alone.
"""

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from worker.defakerone.evaluation import charts
from worker.defakerone.evaluation.cases import Case
from worker.defakerone.evaluation.table import COMPARED, DETECTION, LOCALIZATION, UNDEFINED, name_of

Document = Mapping[str, Any]

TEMPLATE = "report.html"
HEADLINES: Mapping[str, tuple[str, str]] = {
    "image_auc_pooled": (
        "Image AUC, pooled",
        "telling fakes from authentic images of the same data set; 0.5 is guessing",
    ),
    "pixel_auc": ("Pixel AUC", "ranking manipulated above untouched pixels; 0.5 is guessing"),
    "pixel_f1": ("Pixel F1 at 0.5", "overlap of the published mask with the truth"),
    "ece": ("Calibration error", "how far probabilities are from frequencies; 0 is best"),
}


def render_report(
    document: Document, cases: Sequence[tuple[str, Sequence[Case]]] = (), others: Sequence[Document] = ()
) -> str:
    """The whole page."""
    template = Template(files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(f"{name_of(document['predictor'])} on {document['manifest']['name']}"),
        predictor=escape(name_of(document["predictor"])),
        manifest=escape(document["manifest"]["name"]),
        counts=_counts(document["overall"]),
        headlines="".join(_headline(document["overall"], metric) for metric in HEADLINES),
        comparison=_comparison([document, *others]),
        curves=charts.roc(document["curves"])
        + charts.thresholds(document["curves"])
        + charts.reliability(document["curves"]["overall"]),
        bars=_bars(document),
        tables="".join(_table(title, document[key]) for title, key in _SECTIONS),
        perturbations=_perturbations(document["perturbations"]),
        cases="".join(_cases(title, group) for title, group in cases),
        protocol=_protocol(document),
    )


_SECTIONS = (("Data set", "data_sets"), ("Domain", "domains"), ("Operation", "operations"))


def _counts(overall: Document) -> str:
    return (
        f"{overall['n']} images: {overall['fakes']} fake ({overall['masks']} with a mask), "
        f"{overall['authentic']} authentic, {overall['scenes']} independent scenes"
    )


def _headline(overall: Document, metric: str) -> str:
    title, meaning = HEADLINES[metric]
    estimate = overall["metrics"][metric]
    value = "–" if estimate["value"] is None else f"{estimate['value']:.2f}"
    between = "" if estimate["low"] is None else f"95 % interval {estimate['low']:.2f} to {estimate['high']:.2f}, "
    against = ""
    if metric == "pixel_f1" and (trivial := overall["metrics"]["pixel_f1_all_ones"]["value"]) is not None:
        against = f"; marking every pixel gives {trivial:.2f}"
    return (
        f'<div class="headline"><h3>{title}</h3><p class="value">{value}</p>'
        f"<p>{between}n = {estimate['n']}</p><p>{meaning}{against}</p></div>"
    )


def _comparison(documents: Sequence[Document]) -> str:
    if len(documents) == 1:
        return ""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in COMPARED.values())
    rows = "".join(
        f"<tr><th>{escape(name_of(document['predictor']))}</th>"
        + "".join(f"<td>{_cell(document['overall']['metrics'].get(metric, UNDEFINED))}</td>" for metric in COMPARED)
        + "</tr>"
        for document in documents
    )
    return (
        f'<h2>Beside others</h2><div class="wide"><table><thead><tr><th>Predictor</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _bars(document: Document) -> str:
    return (
        charts.bars("Image AUC by data set", document["data_sets"], "image_auc")
        + charts.bars("Pixel F1 at 0.5 by data set", document["data_sets"], "pixel_f1")
        + charts.bars("Pixel AUC by operation", document["operations"], "pixel_auc")
        + charts.bars("Image AUC by domain (mean over data sets)", document["domain_means"], "image_auc")
        + charts.bars("Pixel F1 by domain (mean over data sets)", document["domain_means"], "pixel_f1")
        + charts.bars("False-positive area on authentic images", document["data_sets"], "false_area")
    )


def _table(title: str, parts: Document) -> str:
    headings = ("fake", "real", *DETECTION.values(), "masks", *LOCALIZATION.values())
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    over = (
        f'<th></th><th colspan="{2 + len(DETECTION)}">detection</th><th colspan="{1 + len(LOCALIZATION)}">pixels</th>'
    )
    rows = "".join(
        f"<tr><th>{escape(name)}</th>"
        + f"<td>{part['fakes']}</td><td>{part['authentic']}</td>"
        + "".join(f"<td>{_cell(part['metrics'][metric])}</td>" for metric in DETECTION)
        + f"<td>{part['masks']}</td>"
        + "".join(f"<td>{_cell(part['metrics'][metric])}</td>" for metric in LOCALIZATION)
        + "</tr>"
        for name, part in parts.items()
    )
    return (
        f'<div class="wide"><table><thead><tr class="over">{over}</tr><tr><th>{escape(title)}</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _cell(estimate: Document) -> str:
    if estimate["value"] is None:
        return "–"
    between = "" if estimate["low"] is None else f"<small>{estimate['low']:.2f}–{estimate['high']:.2f}</small>"
    return f"{estimate['value']:.3f}{between}"


def _perturbations(perturbations: Document | None) -> str:
    if perturbations is None:
        return ""
    control = perturbations["identity"]
    rows = [
        (title, "".join(charts.perturbation(suite, found, control, metric, title) for suite, found in suites))
        for metric, title in (("image_auc_pooled", "pooled image AUC"), ("pixel_f1", "pixel F1 at 0.5"))
        for suites in [perturbations["suites"].items()]
    ]
    return "<h2>After what happens to pictures</h2>" + "".join(
        f'<h3>{escape(title)}</h3><div class="charts small">{drawn}</div>' for title, drawn in rows
    )


def _cases(title: str, cases: Sequence[Case]) -> str:
    return f'<h3>{escape(title)}</h3><ol class="cases">{"".join(_case(case) for case in cases)}</ol>'


def _case(case: Case) -> str:
    pictures = [("the image", case.picture), ("the truth", case.truth), ("what was found", case.heat)]
    drawn = "".join(
        f'<img src="{uri}" alt="{escape(kind)}: {escape(case.name)}" title="{kind}" loading="lazy">'
        for kind, uri in pictures
        if uri is not None
    )
    return f'<li><div class="pictures">{drawn}</div><p><b>{escape(case.name)}</b> {escape(case.caption)}</p></li>'


def _protocol(document: Document) -> str:
    bootstrap = document["protocol"]["bootstrap"]
    facts = {
        "Intervals": f"{bootstrap['level']:.0%} percentile bootstrap, {bootstrap['draws']} draws of whole scenes "
        f"within data sets, seed {bootstrap['seed']}",
        "Image metrics": "score at or above 0.5 is fake; " + document["protocol"]["image_auc_pooled"],
        "Pixel metrics": document["protocol"]["pixel_metrics"] + "; heat at or above 0.5 is manipulated",
        "Operations": "an operation's fakes against the authentic images of the data sets in which it occurs",
        "Manifest": f"sha256 {document['manifest']['sha256']}",
        "Predictor": ", ".join(f"{name} {value}" for name, value in document["predictor"].items() if value is not None),
    }
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
