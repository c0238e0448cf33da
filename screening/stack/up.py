"""How does everything start on one machine with one command, and stop with Ctrl-C?"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy.orm import Session, sessionmaker

from screening import migrate
from screening.database import sync_engine
from screening.embedded import EmbeddedPostgres, EmbeddedRedis
from screening.embedded.process import free_port, listening
from screening.errors import AssayError
from screening.stack import demo, samples
from screening.stack.home import Home, Secrets
from screening.stack.supervisor import Supervisor
from screening.webhook_secrets import SecretBox

DEFAULT_PORT = 8000
READY_SECONDS = 180.0
SAMPLE_SECONDS = 300.0
MOST_RESTARTS = 3  # of one process before the stack is ready: what dies so often will not get better
console = Console()


class StackNotReadyError(AssayError):
    """A part of the stack did not become ready; the message names its log."""


def _stop_on_signal(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@click.command("up")
@click.option("--port", type=int, default=0, help=f"Port of the API and the dashboard; default {DEFAULT_PORT} if free.")
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Default: .assay here.")
@click.option("--no-demo", is_flag=True, help="No demo platform, no samples.")
def up(port: int, data_dir: Path | None, no_demo: bool) -> None:
    """Start everything on this machine: PostgreSQL, Redis, API, workers, sweeper. Ctrl-C stops it all."""
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell starts background jobs with SIGINT ignored
        signal.signal(number, _stop_on_signal)
    home = Home(data_dir or Path(".assay"), chosen=data_dir is not None)
    try:
        run(home, _free(port) if port else _default_port(), with_demo=not no_demo)
    except KeyboardInterrupt:
        console.print("Stopped.")
    except AssayError as error:
        raise click.ClickException(str(error)) from error


def _default_port() -> int:
    return free_port() if listening(DEFAULT_PORT) else DEFAULT_PORT


def _free(port: int) -> int:
    if listening(port):
        raise StackNotReadyError(f"Port {port} is taken: give another --port, or none to have a free one chosen.")
    return port


def run(home: Home, port: int, *, with_demo: bool) -> None:
    """Start, report, watch; returns only by exception."""
    home.claim()
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        postgres, redis = _servers(stack, home, home.secrets())
        console.print("PostgreSQL and Redis are up.")
        environment = _environment(home, home.secrets(), postgres, redis, url)
        os.environ.update(environment)
        sessions = _migrated(stack, environment["ASSAY_DATABASE_URL"])
        credentials = None
        if with_demo:
            credentials = demo.credentials(home, sessions, SecretBox([home.secrets().key]), url)
            environment["WEBHOOK_SECRET"] = credentials.webhook_secret
        supervisor = stack.enter_context(_processes(environment, home, port))
        if (receiver := demo.receiver_port(sessions)) is not None and with_demo:
            supervisor.start("receiver", str(receiver), module="screening.stack.receiver")
        _wait_ready(supervisor, url)
        if credentials is not None:
            _screen_samples(supervisor, credentials)
        _say_ready(home, url, demo=with_demo)
        _watch(supervisor, postgres, redis)


def _servers(stack: ExitStack, home: Home, secrets: Secrets) -> tuple[EmbeddedPostgres, EmbeddedRedis]:
    postgres = EmbeddedPostgres(home.postgres, secrets.postgres)
    stack.callback(postgres.stop)
    postgres.start()
    redis = EmbeddedRedis(home.folder / "redis", secrets.redis)
    stack.callback(redis.stop)
    redis.start()
    return postgres, redis


def _environment(
    home: Home, secrets: Secrets, postgres: EmbeddedPostgres, redis: EmbeddedRedis, url: str
) -> dict[str, str]:
    """What the processes are told. A variable that the user has set wins, so that any setting can be tried."""
    ours = {
        "ASSAY_DATABASE_URL": postgres.create_database(),
        "ASSAY_REDIS_URL": redis.url,
        "ASSAY_BLOB_URL": home.blobs.as_uri(),
        "ASSAY_PUBLIC_URL": url,
        "ASSAY_SECRET_KEYS": secrets.key,
        # A receiver on this machine is how webhooks are tried; fetching image URLs stays as strict as anywhere.
        "ASSAY_WEBHOOK_ALLOWED_RANGES": "127.0.0.0/8",
    }
    fixed = ("ASSAY_DATABASE_URL", "ASSAY_REDIS_URL", "ASSAY_SECRET_KEYS", "ASSAY_PUBLIC_URL")
    return {name: value if name in fixed else os.environ.get(name, value) for name, value in ours.items()}


def _migrated(stack: ExitStack, database_url: str) -> sessionmaker[Session]:
    engine = sync_engine(database_url)
    stack.callback(engine.dispose)
    with engine.begin() as connection:
        migrate.upgrade(connection)
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def _processes(environment: dict[str, str], home: Home, port: int) -> Iterator[Supervisor]:
    supervisor = Supervisor(environment, home.logs)
    try:
        supervisor.start("api", "api", "--host", "127.0.0.1", "--port", str(port))
        supervisor.start("screen", "worker", "screen")
        supervisor.start("io", "worker", "io")
        supervisor.start("sweeper", "sweeper")
        yield supervisor
    finally:
        with console.status("Stopping…"):
            supervisor.stop()


def _wait_ready(supervisor: Supervisor, url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    with console.status("Waiting for the API…"):
        while not _answers(f"{url}/readyz"):
            if time.monotonic() > deadline:
                raise StackNotReadyError(f"The API did not become ready; see {supervisor.log('api')}.")
            _revive(supervisor)
            time.sleep(0.2)


def _revive(supervisor: Supervisor) -> None:
    """Start again what has died, and say why once it is hopeless."""
    supervisor.revive()
    for child in supervisor.children:
        if child.restarts >= MOST_RESTARTS:
            log = supervisor.log(child.name)
            tail = log.read_text(errors="replace")[-2000:]
            raise StackNotReadyError(f"The process {child.name} ends again and again; its log {log} ends:\n{tail}")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


def _screen_samples(supervisor: Supervisor, credentials: demo.Credentials) -> None:
    headers = {"Authorization": f"Bearer {credentials.api_key}"}
    with httpx.Client(base_url=credentials.url, headers=headers, timeout=60) as client:
        bundled = samples.bundled()
        earlier = {sample.client_ref: samples.screened(client, sample) for sample in bundled}
        rows = [row for row in earlier.values() if row is not None]
        ids = [samples.submit(client, sample) for sample in bundled if earlier[sample.client_ref] is None]
        columns = (TextColumn("Screening the samples"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("samples", total=len(ids))
            for row in samples.wait(client, ids, SAMPLE_SECONDS, lambda: _revive(supervisor)):
                progress.advance(task)
                rows.append(row)
    console.print(_table({sample.client_ref: sample.label for sample in bundled}, rows))


def _table(known: dict[str, str], rows: list[dict[str, Any]]) -> Table:
    table = Table("sample", "known to be", "verdict", "score", "area", box=None)
    for row in sorted(rows, key=lambda r: str(r["client_ref"])):
        name, verdict, where = row["client_ref"], row["verdict"], row["localization"]
        if verdict is None or where is None:
            table.add_row(name, known[name], row["state"], "", "")
            continue
        area, score = f"{where['area_fraction']:.1%}", f"{verdict['score']:.2f}"
        table.add_row(name, known[name], verdict["label"], score, area)
    return table


def _say_ready(home: Home, url: str, *, demo: bool) -> None:
    console.print(f"\n[bold green]Assay is ready:[/] {url}  (dashboard and API)")
    if demo:
        console.print(f"Demo credentials: {home.demo}\nLogs: {home.logs}", soft_wrap=True)  # paths are copied whole
    console.print("Ctrl-C stops everything.")


def _watch(supervisor: Supervisor, postgres: EmbeddedPostgres, redis: EmbeddedRedis) -> None:
    while True:
        for name in supervisor.revive():
            console.print(f"[yellow]{name} had ended and was started again; see {supervisor.log(name)}.")
        for server in (postgres, redis):
            if not server.running:
                console.print(f"[yellow]{type(server).__name__} had ended and was started again; see {server.log}.")
                server.start()
        time.sleep(1)
