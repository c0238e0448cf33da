"""`assay detect`: screens files or folders without any server."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from worker.commands.runtime import load_model

if TYPE_CHECKING:
    from PIL import Image

    from worker.defakerone import DeFakerOne
    from worker.defakerone.files import Screened, Source
    from worker.defakerone.report import Card
    from worker.defakerone.settings import InferenceSettings
    from worker.defakerone.verdict import Detection

    _Written: TypeAlias = tuple[dict[str, Any], Card | None]

DEFAULT_REPORT_FOLDER = Path("assay-report")


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--weights", type=click.Path(path_type=Path), help="Checkpoint folder; default: the bundled one.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write masks, heat maps and overlays.")
@click.option("--report", is_flag=True, help="Write report.html, a contact sheet, into the output folder.")
@click.option("--mask", "mask_mode", default="always", show_default=True, help="always, never or above=X.")
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(1))
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option(
    "--dtype", default="auto", show_default=True, type=click.Choice(["auto", "float32", "bfloat16", "float16"])
)
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1), help="Threads that read and write.")
def detect(
    paths: tuple[Path, ...],
    weights: Path | None,
    as_json: bool,
    out: Path | None,
    report: bool,
    mask_mode: str,
    batch_size: int,
    device: str,
    dtype: str,
    threads: int,
) -> None:
    """Screen images for forgery: PATHS are files, or folders that are searched for images.

    Prints a line an image; a file that cannot be read is a line with an error, and the run goes on. Exit status: 0,
    1 where some file failed, 2 on wrong use.
    """
    from worker.defakerone.files import find_sources

    settings = _settings(mask_mode)
    sources = list(find_sources(paths))
    if not sources:
        raise click.UsageError("no images in " + ", ".join(map(str, paths)))
    model = load_model(weights, device, dtype, settings)
    out = DEFAULT_REPORT_FOLDER if report and out is None else out
    writer = _Writer(model, out, report)
    failed, cards = 0, []
    try:
        for line, card in _results(writer, sources, batch_size, threads):
            failed += "error" in line
            cards += [card] if card is not None else []
            click.echo(json.dumps(line) if as_json else _sentence(line))
        if report and out is not None:
            click.echo(str(writer.finish_report(out, cards)), err=True)
    except OSError as error:
        raise click.ClickException(f"cannot write the results: {error}") from error
    sys.exit(1 if failed else 0)


def _settings(mask_mode: str) -> InferenceSettings:
    from worker.defakerone.errors import DetectorError
    from worker.defakerone.settings import InferenceSettings, MaskMode

    try:
        return InferenceSettings(mask_mode=MaskMode.parse(mask_mode))
    except DetectorError as error:
        raise click.BadParameter(str(error), param_hint="--mask") from error


def _results(writer: _Writer, sources: list[Source], batch_size: int, threads: int) -> Iterator[_Written]:
    from worker.defakerone.files import screen_files

    with _progress(len(sources)) as advance:
        for result in screen_files(writer.model, sources, writer, batch_size=batch_size, threads=threads):
            yield result
            advance()


class _Writer:
    """Turns one result into its line, its files and its card; runs on the threads that finish files."""

    def __init__(self, model: DeFakerOne, out: Path | None, report: bool) -> None:
        self.model, self.out, self.report = model, out, report

    def __call__(self, result: Screened) -> _Written:
        """Return the JSON line and the card."""
        from worker.defakerone.report import make_card

        return self._line(result), make_card(result) if self.report else None

    def finish_report(self, out: Path, cards: list[Card]) -> Path:
        """Write the contact sheet and return its path."""
        from worker.defakerone.report import write_report

        out.mkdir(parents=True, exist_ok=True)
        write_report(out / "report.html", cards, self.model.weights_sha256)
        return out / "report.html"

    def _line(self, result: Screened) -> dict[str, Any]:
        path = str(result.source.path)
        detection, image = result.detection, result.image
        if detection is None or image is None:
            return {"path": path, "error": str(result.error)}
        written = {} if self.out is None else _write_pictures(self.out / result.source.name, image, detection)
        return {
            "path": path,
            "score": detection.score,
            "probability": detection.probability,
            "label": detection.label,
            "area_fraction": detection.area_fraction,
            "mask": written.get("mask"),
            "heatmap": written.get("heatmap"),
            "width": image.width,
            "height": image.height,
            "weights": self.model.weights_sha256,
        }


def _write_pictures(name: Path, image: Image.Image, detection: Detection) -> dict[str, str]:
    """Write mask, heat map and overlay beside each other; return their paths."""
    from worker.defakerone.pictures import card, encode_heatmap, encode_jpeg, encode_mask

    name.parent.mkdir(parents=True, exist_ok=True)
    contents = {
        "mask": (f"{name}.mask.png", encode_mask(detection)),
        "heatmap": (f"{name}.heatmap.png", encode_heatmap(detection)),
        "overlay": (f"{name}.overlay.jpg", encode_jpeg(card(image, detection))),
    }
    for path, data in contents.values():
        Path(path).write_bytes(data)
    return {kind: path for kind, (path, _) in contents.items()}


def _sentence(line: dict[str, Any]) -> str:
    if "error" in line:
        return f"{line['path']}: {click.style('failed', fg='yellow')}: {line['error']}"
    colour = {"fake": "red", "authentic": "green"}.get(line["label"], "yellow")
    chance = "" if line["probability"] is None else f", probability {line['probability']:.0%}"
    return (
        f"{line['path']}: {click.style(line['label'], fg=colour)}, score {line['score']:.3f}{chance}, "
        f"{line['area_fraction']:.1%} marked"
    )


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on the terminal's error stream; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("screening", total=total)
        yield lambda: bar.advance(task)
