"""`assay worker screen|io`: one Celery worker."""

import os
import tempfile
from pathlib import Path

import click

from worker.commands.runtime import WEIGHTS_VARIABLE, default_weights

IO_CHILDREN = 4  # deliveries wait for foreign servers, so several at a time

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # read by prometheus-client when it is first imported


@click.command()
@click.argument("kind", type=click.Choice(["screen", "io"]))
def worker(kind: str) -> None:
    """Run a worker: `screen` runs the detector, one process a GPU; `io` sends webhooks and keeps house.

    SIGTERM puts down what is in hand and ends; others take it up.
    """
    with tempfile.TemporaryDirectory(prefix="assay-metrics-") as folder:
        os.environ[METRICS_FOLDER] = folder
        try:
            start(kind)
        finally:  # whoever called in their own process must not pass on a folder that is gone
            del os.environ[METRICS_FOLDER]


def require_checkpoint(folder: Path) -> None:
    """Refuse to start without weights: the pool's children would fail to load them again and again."""
    if not (folder / "config.json").is_file():
        raise click.ClickException(
            f"{folder} holds no checkpoint: config.json is missing. Set {WEIGHTS_VARIABLE} to a checkpoint's folder, "
            "or unset it for the bundled one."
        )


def start(kind: str) -> None:
    """Run until told to stop."""
    if kind == "screen":
        require_checkpoint(default_weights())  # first: what cannot work says so before it loads anything
    # Imported here: prometheus-client must find its folder, and Celery reads the environment.
    from screening import logs
    from screening.settings import settings
    from worker import app, devices, metrics

    logs.configure(settings())
    children = devices.children(settings().device) if kind == "screen" else IO_CHILDREN
    if settings().metrics_port:
        metrics.serve(settings())
    app.app.worker_main(app.arguments(kind, children))
