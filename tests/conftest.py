"""Which servers do the tests stand on? Real ones, started once a run on free ports."""

import os
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import settings as property_settings
from pydantic import SecretStr
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from screening import api_keys, migrate, platforms
from screening.api_keys import Scope
from screening.database import sync_engine
from screening.embedded import EmbeddedPostgres, EmbeddedRedis
from screening.ids import uuid7
from screening.settings import Settings
from screening.tables import Platform
from tests.server import ApiServer

SEED = int(os.environ.get("ASSAY_TEST_SEED", random.SystemRandom().randrange(2**32)))
FIXTURES = Path(__file__).parent / "fixtures"
STANDING = "standing"  # the server that many tests share, its folder and its database

# A busy machine must not fail a property; a failure prints the blob that repeats it.
property_settings.register_profile("assay", deadline=None, print_blob=True)
property_settings.register_profile("soak", parent=property_settings.get_profile("assay"), max_examples=1000)
property_settings.load_profile("soak" if os.environ.get("ASSAY_SOAK") else "assay")


def pytest_report_header() -> str:
    """Print the seed, so that a failing run can be run again."""
    return f"ASSAY_TEST_SEED={SEED}"


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Chance that can be repeated, and differs from test to test."""
    return random.Random(f"{SEED} {request.node.nodeid}")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference inputs outside the repository; the test is skipped, aloud, without them."""
    folder = os.environ.get("ASSAY_SHARED", str(Path(__file__).parents[2] / "shared"))
    if not Path(folder, "fixtures").is_dir():
        pytest.skip("ASSAY_SHARED names no folder with the reference inputs")
    return Path(folder)


@pytest.fixture(scope="session")
def run_folder() -> Iterator[Path]:
    """A folder of short path: PostgreSQL as root runs as somebody else, who must be able to enter it."""
    with tempfile.TemporaryDirectory(prefix="assay-test-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres(run_folder: Path) -> Iterator[EmbeddedPostgres]:
    """One PostgreSQL for the run. Tests that kill a server start their own."""
    server = EmbeddedPostgres(run_folder / "postgres", "secret", fsync=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_server(run_folder: Path) -> Iterator[EmbeddedRedis]:
    """One Redis for the run."""
    server = EmbeddedRedis(run_folder / "redis", "secret")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def template(postgres: EmbeddedPostgres) -> str:
    """A migrated database that each test copies: cheaper than migrating anew, cleaner than truncating."""
    engine = sync_engine(postgres.create_database("template_assay"))
    with engine.begin() as connection:
        migrate.upgrade(connection)
    engine.dispose()
    return "template_assay"


@pytest.fixture(scope="session")
def admin(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    """What creates and drops databases."""
    made = sync_engine(postgres.url("postgres"))
    yield made.execution_options(isolation_level="AUTOCOMMIT")
    made.dispose()


@contextmanager
def empty_database(admin: Engine, template: str, name: str) -> Iterator[None]:
    """A database like the template, for as long as the block runs."""
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    yield
    with admin.connect() as connection:
        connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture
def database_url(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres, admin: Engine, template: str
) -> Iterator[str]:
    """An empty, migrated database of the test's own, of the name that the standing server knows where it takes part."""
    name = STANDING if "standing" in request.fixturenames else f"test_{uuid7().hex}"
    with empty_database(admin, template, name):
        yield postgres.url(name)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on the test's database."""
    made = sync_engine(database_url)
    yield made
    made.dispose()


@pytest.fixture
def sessions(engine: Engine) -> sessionmaker[Session]:
    """Sessions that keep what they loaded after a commit."""
    return sessionmaker(engine, expire_on_commit=False)


@pytest.fixture
def platform(sessions: sessionmaker[Session]) -> Platform:
    """One platform."""
    with sessions.begin() as session:
        return platforms.create(session, "acme")


def settings_of(database_url: str, redis_server: EmbeddedRedis, blobs: Path) -> Settings:
    """Those of every process that runs for one test."""
    return Settings(
        database_url=database_url,
        redis_url=redis_server.url,
        blob_url=blobs.as_uri(),
        public_url="http://testserver",
        secret_keys=SecretStr("first-key-of-the-tests,second-key-of-the-tests"),
    )


@pytest.fixture
def settings(
    request: pytest.FixtureRequest, database_url: str, redis_server: EmbeddedRedis, tmp_path: Path, run_folder: Path
) -> Settings:
    """The settings of a process on the test's own database and an empty blob folder, and the run's Redis."""
    blobs = (run_folder / STANDING if "standing" in request.fixturenames else tmp_path) / "blobs"
    shutil.rmtree(blobs, ignore_errors=True)
    return settings_of(database_url, redis_server, blobs)


@pytest.fixture
def api_key(sessions: sessionmaker[Session], platform: Platform) -> str:
    """A key of the platform with every scope."""
    with sessions.begin() as session:
        return api_keys.create(session, platform.id, frozenset(Scope))


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    """The API in this process."""
    made = create_app(settings)
    yield made
    await made.state.services.close()


@pytest.fixture
async def client(app: FastAPI, api_key: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API with the platform's key."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://testserver", headers={"Authorization": f"Bearer {api_key}"}
    ) as made:
        yield made


@pytest.fixture(scope="session")
def standing(postgres: EmbeddedPostgres, redis_server: EmbeddedRedis, run_folder: Path) -> Iterator[ApiServer]:
    """The API in a process of its own, with small limits on time: one for all tests that neither end nor set it."""
    folder = run_folder / STANDING
    folder.mkdir()
    settings = settings_of(postgres.url(STANDING), redis_server, folder / "blobs")
    made = ApiServer(settings, folder, ASSAY_BODY_SECONDS="3").start()
    yield made
    made.stop()


@pytest.fixture
def server(standing: ApiServer, settings: Settings) -> Iterator[ApiServer]:
    """The standing API, whose connections to the last test's database it finds broken; it must survive the test."""
    if not standing.alive:
        standing.start()
    yield standing
    assert standing.alive
