"""How far is a run, and how did its losses move? One JSON line an event, and the curves as a picture."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl


def append_event(path: Path, event: dict[str, Any]) -> None:
    """Append one line to the log."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")


def read_events(path: Path) -> list[dict[str, Any]]:
    """Read the log; an unfinished last line is left out."""
    events = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return events


def draw_curves(log: Path, picture: Path) -> None:
    """Draw every loss term and every validation score over the pictures seen; written whole or not at all."""
    mpl.use("Agg")
    from matplotlib import pyplot

    events = read_events(log)
    figure, (losses, scores) = pyplot.subplots(2, 1, figsize=(9, 8), sharex=True)
    for axis, kind in ((losses, "terms"), (scores, "scores")):
        shown = [event for event in events if kind in event]
        for name in sorted({name for event in shown for name in event[kind]}):
            points = [(e["pictures"], e[kind][name]) for e in shown if e[kind].get(name) is not None]
            axis.plot(*zip(*points, strict=True), label=name, linewidth=1)
        if shown:
            axis.legend(fontsize=7, ncols=4)
        axis.grid(alpha=0.3)
    losses.set_ylabel("loss")
    scores.set_ylabel("validation")
    scores.set_xlabel("pictures seen")
    partial = picture.with_name(f".{picture.name}")
    figure.savefig(partial, dpi=110, format="png")
    pyplot.close(figure)
    partial.replace(picture)
