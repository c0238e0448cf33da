"""Which of the paper's findings hold on this data? Four analyses, each a handful of trainings that differ in one thing.

- scaling: the same training on growing subsets of the photos or of the manifest. - transfer: one domain alone, and
with each other domain added; gain and loss on the first. - supervision: the joint stage with and without masks. -
resolution: native tiles against one downsized picture.

Each variant trains in its own folder and is resumed or skipped when it is there already; results go to `results.json`
and one plot.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl

from worker.defakerone.manifest import DOMAINS
from worker.defakerone.training.progress import read_events
from worker.defakerone.training.settings import Run
from worker.defakerone.training.trainer import Trainer


@dataclass(frozen=True)
class Variant:
    """One training of a study; `x` is its place on the plot's axis."""

    label: str
    x: str
    run: Run


def scaling(run: Run) -> list[Variant]:
    """Use an eighth, a quarter, a half and all of the sources for the same number of steps."""
    total = source_count(run)
    sizes = sorted({max(2, total // divisor) for divisor in (8, 4, 2, 1)})
    return [Variant(f"{size} sources", str(size), replace(run, limit=size)) for size in sizes]


def transfer(run: Run) -> list[Variant]:
    """Train each domain alone and each pair, in equal shares; validation always shows all of them."""
    names = tuple(domain for domain in DOMAINS if domain in present_domains(run))
    alone = [Variant(name, name, _only(run, (name,))) for name in names]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return alone + [Variant(f"{a} + {b}", f"{a}+{b}", _only(run, (a, b))) for a, b in pairs]


def supervision(run: Run) -> list[Variant]:
    """Train with masks, and with labels alone."""
    blind = tuple(
        replace(stage, lambda_seg=0.0, lambda_auxiliary=0.0) for stage in run.stages if stage.branch != "mask"
    )
    return [Variant("masks", "with masks", run), Variant("labels", "labels only", replace(run, stages=blind))]


def resolution(run: Run) -> list[Variant]:
    """Show the language side its native tiles, or the whole picture downsized to one tile."""
    return [Variant("tiles", "native tiles", run), Variant("downsized", "one tile", replace(run, max_tiles=1))]


STUDIES: dict[str, Callable[[Run], list[Variant]]] = {
    "scaling": scaling,
    "transfer": transfer,
    "supervision": supervision,
    "resolution": resolution,
}


def source_count(run: Run) -> int:
    """How many photos or manifest entries the training split has."""
    from worker.defakerone.manifest import read_manifest
    from worker.defakerone.training.forgery.photos import split_of

    path = run.manifest if any(stage.source == "manifest" for stage in run.stages) else run.photos
    return sum(split_of(entry) == "train" for entry in read_manifest(path)) if path else 0


def present_domains(run: Run) -> tuple[str, ...]:
    """The domains that the run can show."""
    from worker.defakerone.manifest import read_manifest

    if run.manifest is not None and any(stage.source == "manifest" for stage in run.stages):
        return tuple(sorted({entry.domain for entry in read_manifest(run.manifest)}))
    return tuple(domain for domain, share in run.recipe.domains if share > 0)


def _only(run: Run, names: tuple[str, ...]) -> Run:
    recipe = replace(run.recipe, domains=tuple((d, float(d in names)) for d, _ in run.recipe.domains))
    return replace(run, domains=names, recipe=recipe)


def run_study(kind: str, run: Run, folder: Path) -> list[dict[str, Any]]:
    """Train every variant, write results.json and the plot, and return the rows."""
    rows = []
    for variant in STUDIES[kind](run):
        place = folder / variant.label.replace(" ", "")
        Trainer(variant.run, place).train()
        scores = best_scores(place)
        rows.append({"study": kind, "label": variant.label, "x": variant.x, "scores": scores})
        partial = folder / ".results.json"
        partial.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        partial.replace(folder / "results.json")
    plot(kind, rows, folder / f"{kind}.png")
    return rows


def best_scores(place: Path) -> dict[str, float]:
    """The last validation of each score over the run's stages: later stages overwrite what they measure again."""
    found: dict[str, float] = {}
    for event in read_events(place / "log.jsonl"):
        found |= event.get("scores", {})
    return found


def plot(kind: str, rows: list[dict[str, Any]], picture: Path) -> None:
    """Draw the scores of every variant: a line over sizes, bars otherwise."""
    mpl.use("Agg")
    from matplotlib import pyplot

    names = [n for n in ("image_auc", "pixel_f1", "pixel_auc") if any(n in row["scores"] for row in rows)]
    if kind == "transfer":
        names = sorted({n for row in rows for n in row["scores"] if n.startswith("image_auc_")} - {"image_auc_mask"})
    figure, axis = pyplot.subplots(figsize=(9, 5))
    places = list(range(len(rows)))
    for number, name in enumerate(names):
        values = [row["scores"].get(name, float("nan")) for row in rows]
        if kind == "scaling":
            axis.plot(places, values, marker="o", label=name)
        else:
            width = 0.8 / max(1, len(names))
            axis.bar([p + number * width for p in places], values, width, label=name)
    axis.set_xticks(places, [row["x"] for row in rows], rotation=20, ha="right")
    axis.set_ylabel("validation score")
    axis.set_title(kind)
    axis.grid(alpha=0.3, axis="y")
    if names:
        axis.legend(fontsize=8)
    figure.tight_layout()
    partial = picture.with_name(f".{picture.name}")
    figure.savefig(partial, dpi=110, format="png")
    pyplot.close(figure)
    partial.replace(picture)
