"""The compose file's commands run as plain processes, are healthy by the images' checks, and scale by KEDA's query."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from screening import jobs, progress
from screening.database import sync_engine
from screening.embedded import EmbeddedPostgres, EmbeddedRedis
from screening.embedded.process import free_port, listening
from screening.tables import Platform
from tests.findings import intake
from tests.running_line import Process, wait_for
from tests.unit.test_docker import compose, environment, final, manifests


@pytest.fixture
def variables(postgres: EmbeddedPostgres, redis_server: EmbeddedRedis, tmp_path: Path) -> dict[str, str]:
    """The variables of the compose file with this run's servers behind them; the images' own beside them."""
    given = compose()["services"]["api"]["environment"] | environment("api") | environment("worker")
    ours = {
        "ASSAY_DATABASE_URL": postgres.create_database(f"compose_{tmp_path.name.replace('-', '_')}"),
        "ASSAY_REDIS_URL": redis_server.url,
        "ASSAY_BLOB_URL": f"file://{tmp_path}/blobs",
        "ASSAY_SECRET_KEYS": "key",
        "ASSAY_PUBLIC_URL": "http://localhost:8000",
        "ASSAY_SPOOL_DIR": str(tmp_path),
    }
    kept = {name: value for name, value in given.items() if name.startswith("ASSAY_") and name not in ours}
    kept.pop("ASSAY_S3_ENDPOINT_URL")
    return {**kept, **ours, "PATH": "/usr/local/bin:/usr/bin:/bin", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def started(tmp_path: Path, variables: dict[str, str]) -> Iterator[dict[str, Process]]:
    """Whatever a test starts, ended afterwards."""
    processes: dict[str, Process] = {}
    yield processes
    for process in processes.values():
        if process.alive:
            process.stop()


def start(name: str, variables: dict[str, str], port: int, folder: Path) -> Process:
    """A service's command, with a free port where the file names its own."""
    arguments = [str(port) if a == "8000" else a for a in compose()["services"][name]["command"]]
    arguments = ["127.0.0.1" if a == "0.0.0.0" else a for a in arguments]
    return Process(name, [sys.executable, "-m", "screening", *arguments], variables, folder / f"{name}.log")


def healthy(image: str, port: int, metrics: int) -> bool:
    """What the image's HEALTHCHECK says, run as it stands but for the ports."""
    check = dict(final(image))["HEALTHCHECK"].partition("CMD ")[2]
    command = [
        re.sub(r":(8000|9090)/", lambda m: f":{port if m[1] == '8000' else metrics}/", p) for p in yaml.safe_load(check)
    ]
    done = subprocess.run([sys.executable, *command[1:]], capture_output=True, check=False)
    return done.returncode == 0


def test_the_services_start_from_an_empty_database_and_are_healthy(
    variables: dict[str, str], started: dict[str, Process], tmp_path: Path
) -> None:
    ports = {name: (free_port(), free_port()) for name in ("api", "io")}
    for _ in range(2):  # a second release finds the schema in place
        migrated = start("migrate", variables, 0, tmp_path)
        assert migrated.wait(60) == 0, migrated.log.read_text()
    for name, (port, metrics) in ports.items():
        started[name] = start(name, {**variables, "ASSAY_METRICS_PORT": str(metrics)}, port, tmp_path)
    started["sweeper"] = start("sweeper", variables, 0, tmp_path)
    for name, image in (("api", "api"), ("io", "worker")):
        asked = ports[name][0 if name == "api" else 1]  # each check is a process: none before there is something to ask
        wait_for(f"{name} listens", lambda p=asked, n=name: listening(p) or not started[n].alive, 60)  # type: ignore[misc]
        wait_for(f"{name} is healthy", lambda i=image, n=name: healthy(i, *ports[n]) or not started[n].alive, 60)  # type: ignore[misc]
        assert started[name].alive, started[name].log.read_text()
    assert not healthy("api", free_port(), free_port())
    wait_for("the sweeper leads", lambda: started["sweeper"].said("sweeper.leads"))


def test_kedas_query_is_the_age_of_the_oldest_due_screening(
    sessions: sessionmaker[Session], database_url: str, platform: Platform
) -> None:
    [trigger] = next(m for m in manifests() if m["kind"] == "ScaledObject")["spec"]["triggers"]
    query = text(trigger["metadata"]["query"])
    with sessions() as session:
        assert session.scalar(query) == 0
    with sessions.begin() as session:
        jobs.enqueue(session, intake(platform.id))
    engine = sync_engine(f"{database_url}?options=-c%20assay.clock_offset%3D60s")
    with Session(engine) as session:
        assert session.scalar(query) == pytest.approx(60, abs=20)
        assert session.scalar(query) == pytest.approx(progress.oldest_due_seconds(session), abs=1)
    engine.dispose()


def test_the_shell_lines_that_the_files_tell_to_type_name_files_that_exist() -> None:
    folder = Path(__file__).parents[2]
    for path in sorted((folder / "docker").rglob("*")):
        if path.suffix not in (".yaml", ".Dockerfile"):
            continue
        for line in re.findall(r"^#\s+((?:docker|cd) .*)$", path.read_text(), re.MULTILINE):
            for word in shlex.split(line.rstrip("\\ ")):
                if word.endswith((".yaml", ".Dockerfile", ".env")) and word != ".env":
                    assert (folder / word).exists() or (folder / "docker" / word).exists(), (path.name, word)
