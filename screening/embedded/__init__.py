"""Real servers without Docker: PostgreSQL and Redis as child processes on free ports, for `assay up` and the tests."""

from screening.embedded.postgres import EmbeddedPostgres
from screening.embedded.redis import EmbeddedRedis

__all__ = ["EmbeddedPostgres", "EmbeddedRedis"]
