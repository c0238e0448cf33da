"""What do the API's benchmarks stand on? Servers of their own, durable as in production, on free ports."""

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy.orm import Session

from screening import api_keys, migrate, platforms
from screening.api_keys import Scope
from screening.database import sync_engine
from screening.embedded import EmbeddedPostgres, EmbeddedRedis
from screening.settings import Settings
from tests.server import ApiServer


@dataclass(frozen=True, slots=True)
class Stack:
    """A running API with an empty database, and a key for it."""

    server: ApiServer
    settings: Settings
    key: str

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Authorization": f"Bearer {self.key}"}


@contextmanager
def stack() -> Iterator[Stack]:
    """Start PostgreSQL (with fsync), Redis and the API; stop them at the end. Rates do not bind."""
    with tempfile.TemporaryDirectory(prefix="assay-bench-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o711)
        postgres, redis = EmbeddedPostgres(folder / "pg", "secret"), EmbeddedRedis(folder / "redis", "secret")
        postgres.start()
        redis.start()
        settings = Settings(
            database_url=postgres.create_database(),
            redis_url=redis.url,
            blob_url=f"file://{folder}/blobs",
            secret_keys=SecretStr("bench"),
        )
        limits = {
            "ASSAY_DEFAULT_RATE_PER_SECOND": "1000000",
            "ASSAY_DEFAULT_BURST": "1000000",
            "ASSAY_LOG_LEVEL": "WARNING",
        }
        server = ApiServer(settings, folder, workers=1, **limits)
        try:
            key = _prepare(settings)
            yield Stack(server.start(), settings, key)
        finally:
            server.stop()
            redis.stop()
            postgres.stop()


def _prepare(settings: Settings) -> str:
    engine = sync_engine(settings.database_url)
    with engine.begin() as connection:
        migrate.upgrade(connection)
    with Session(engine) as session, session.begin():
        key = api_keys.create(session, platforms.create(session, "bench").id, frozenset(Scope))
    engine.dispose()
    return key


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies, in the unit of the values."""
    cuts = statistics.quantiles(values, n=1000, method="inclusive")
    return cuts[min(998, round(share * 1000) - 1)]
