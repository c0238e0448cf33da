"""How is the API run? `assay api`: uvicorn with our app, behind a proxy or not, with one process or several."""

import os
import signal
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import click

from screening import logs
from screening.errors import ConfigurationError
from screening.settings import Settings, settings

GRACE_SECONDS = 30  # for requests in flight at a shutdown: as long as `Prefer: wait` may take
KEEP_ALIVE_SECONDS = 75  # above the 60 s after which usual balancers let go, so that they close first
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's own name


@click.command(name="api")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes.")
@click.option(
    "--trusted-proxies",
    default="127.0.0.1",
    show_default=True,
    help="Addresses or networks, comma-separated, whose X-Forwarded-* headers are believed.",
)
def api(host: str, port: int, workers: int, trusted_proxies: str) -> None:
    """Serve the HTTP API and the dashboard. SIGTERM lets requests in flight end first."""
    chosen = settings()
    logs.configure(chosen)
    _check(chosen)
    # uvicorn shuts down in peace and then raises the signal again: an asked-for end is a success, and ours to tidy up.
    signal.signal(signal.SIGTERM, _end)
    with ExitStack() as stack:
        if workers > 1:  # each process counts for itself; the folder is where the counts meet
            os.environ[MULTIPROCESS] = stack.enter_context(tempfile.TemporaryDirectory(prefix="assay-metrics-"))
            stack.callback(os.environ.pop, MULTIPROCESS)  # whoever called must not pass on a folder that is gone
        if chosen.metrics_port:
            _serve_metrics(chosen)
        _serve(host, port, workers, trusted_proxies)


@click.command(name="openapi")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to write; default: the package.")
def openapi(output: Path | None) -> None:
    """Write the OpenAPI document of this code."""
    from pydantic import SecretStr

    from api.app import create_app
    from api.openapi import FILE, text

    target = output or FILE
    target.write_text(text(create_app(Settings(secret_keys=SecretStr("none is signed with")))))
    click.echo(str(target))


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _check(chosen: Settings) -> None:
    """Say what is wrong with the settings before anything listens: several processes would each fail for ever."""
    from api.cursors import Cursors
    from screening.blobs import open_store

    try:
        Cursors(chosen.keys)
        open_store(chosen.blob_url, chosen.s3_endpoint_url)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error


def _serve_metrics(chosen: Settings) -> None:
    from api.exposition import serve

    serve(chosen)


def _serve(host: str, port: int, workers: int, trusted_proxies: str) -> None:
    import uvicorn

    uvicorn.run(
        "api.app:from_environment",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        http="api.protocol:ProblemProtocol",
        ws="none",
        # Ours names the route, not what was typed; see api/request_log.py.
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=trusted_proxies,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        app_dir=str(Path(__file__).parents[1]),
    )
