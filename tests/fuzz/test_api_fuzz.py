"""Whatever a client makes of the OpenAPI document: no 5xx, and every error a problem document that was announced.

The count of requests for each operation is small here and full with ASSAY_SOAK=1; ASSAY_FUZZ_EXAMPLES chooses another.
ASSAY_TEST_SEED repeats a run.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, seed, settings
from pydantic import SecretStr
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from screening import api_keys, migrate, platforms
from screening.api_keys import Scope
from screening.blobs import open_store
from screening.database import sync_engine
from screening.embedded import EmbeddedPostgres
from screening.settings import Settings
from screening.tables import Platform
from tests import outcomes, pictures
from tests.conftest import SEED
from tests.server import ApiServer

SOAK = os.environ.get("ASSAY_SOAK") == "1"
EXAMPLES = int(os.environ.get("ASSAY_FUZZ_EXAMPLES", "500" if SOAK else "15"))
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
    response_headers_conformance,
]  # fmt: skip

pytestmark = pytest.mark.timeout(3 * 3600 if SOAK else 600)

# From the committed document, which another test holds to the code.
schema = schemathesis.openapi.from_path(Path(__file__).parents[2] / "api" / "openapi.json")
platform_routes = schema.include(path_regex=r"^/(v1/(screenings|webhook-endpoints|deliveries|policy)|livez|readyz)")
other_routes = schema.exclude(path_regex=r"^/(v1/(screenings|webhook-endpoints|deliveries|policy)|livez|readyz)")
counts = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    database=None,
)


@pytest.fixture(scope="module")
def fuzzed(postgres: EmbeddedPostgres, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One server on one database for all that is thrown at it; the platform has a finished screening."""
    folder = tmp_path_factory.mktemp("fuzz")
    engine = sync_engine(postgres.create_database("fuzz"))
    with engine.begin() as connection:
        migrate.upgrade(connection)
    chosen = Settings(
        database_url=postgres.url("fuzz"),
        redis_url="redis://127.0.0.1:1/0",
        blob_url=f"file://{folder}/blobs",
        secret_keys=SecretStr("key"),
    )
    server = ApiServer(
        chosen, folder, ASSAY_BODY_SECONDS="2", ASSAY_WAIT_SECONDS_MAX="0", ASSAY_DEFAULT_RATE_PER_SECOND="100000",
        ASSAY_DEFAULT_BURST="100000",
    ).start()  # fmt: skip
    server.key, server.known = _prepare(engine, chosen, server)
    yield server
    assert server.stop() == 0
    engine.dispose()
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert [line for line in lines if line["event"] not in ("request", "doorbell.silent", "blob.missing")] == []
    statuses = Counter(line["status"] // 100 for line in lines if line["event"] == "request")
    assert statuses[2] > 20, f"what was thrown never got past validation: {statuses}"
    assert statuses[4] > 20, f"nothing wrong was thrown: {statuses}"


def _prepare(engine: Engine, chosen: Settings, server: ApiServer) -> tuple[str, str]:
    """A key, and the id of a finished screening."""
    with Session(engine) as session, session.begin():
        platform: Platform = platforms.create(session, "fuzzed")
        key = api_keys.create(session, platform.id, frozenset(Scope))
    sessions = sessionmaker(engine, expire_on_commit=False)
    answer = httpx.post(
        f"{server.url}/v1/screenings",
        files={"image": ("a.jpg", pictures.jpeg())},
        headers={"Authorization": f"Bearer {key}"},
    )
    assert answer.status_code == 202
    [held] = outcomes.claim(sessions)
    outcomes.succeed(sessions, open_store(chosen.blob_url), held)
    return key, str(answer.json()["id"])


@platform_routes.parametrize()
@counts
@seed(SEED)
def test_no_request_of_a_platform_is_a_server_error(case: "schemathesis.Case[Any]", fuzzed: ApiServer) -> None:
    if "screening_id" in case.path_parameters and case.method != "DELETE":  # else all of them would end at the 404
        case.path_parameters["screening_id"] = fuzzed.known
    case.call_and_validate(base_url=fuzzed.url, headers={"Authorization": f"Bearer {fuzzed.key}"}, checks=CHECKS)


@other_routes.parametrize()
@counts
@seed(SEED)
def test_no_request_of_anybody_is_a_server_error(case: "schemathesis.Case[Any]", fuzzed: ApiServer) -> None:
    case.call_and_validate(
        base_url=fuzzed.url,
        headers={"Authorization": f"Bearer {fuzzed.key}"},
        checks=[not_a_server_error, status_code_conformance],
    )
