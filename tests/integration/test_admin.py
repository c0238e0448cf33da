"""`assay admin` as an operator meets it."""

from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from screening import api_keys, endpoints, jobs
from screening.commands.admin import admin
from screening.ids import Prefix, encode
from screening.settings import settings
from screening.tables import ApiKey, AuditEntry, Endpoint, Platform, Screening
from screening.webhook_secrets import SecretBox
from tests.findings import intake

Sessions = sessionmaker[Session]
Run = Callable[..., Result]


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> Run:
    monkeypatch.setenv("ASSAY_DATABASE_URL", database_url)
    monkeypatch.setenv("ASSAY_SECRET_KEYS", "new,old")
    monkeypatch.setenv("ASSAY_BLOB_URL", f"file://{tmp_path}")
    monkeypatch.setenv("ASSAY_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("COLUMNS", "250")
    settings.cache_clear()

    def invoke(*arguments: str, status: int = 0) -> Result:
        result = CliRunner().invoke(admin, arguments)
        assert result.exit_code == status, result.output
        return result

    return invoke


@pytest.fixture(autouse=True)
def _fresh_settings() -> object:
    yield
    settings.cache_clear()


def test_a_platform_is_created_listed_and_limited(run: Run, sessions: Sessions) -> None:
    public_id = run("create-platform", "acme", "--weight", "3").output.strip()
    assert public_id.startswith("plt_")
    assert "already" in run("create-platform", "acme", status=1).output
    run("set-quota", "acme", "--rate", "5", "--burst", "9", "--max-queued", "100")
    run("set-quota", public_id, "--default", "burst", "--weight", "2")
    with sessions() as session:
        row = session.scalars(select(Platform)).one()
        assert (row.weight, row.rate_per_second, row.burst, row.max_queued) == (2, 5.0, None, 100)
    assert "acme" in run("list-platforms").output
    assert "Nothing to set" in run("set-quota", "acme", status=2).output
    assert "no platform 'nobody'" in run("set-quota", "nobody", "--weight", "2", status=1).output


def test_a_key_is_shown_once_works_and_can_be_revoked(run: Run, sessions: Sessions) -> None:
    run("create-platform", "acme")
    key = run("create-key", "acme", "--scope", "read", "--scope", "admin").output.strip()
    with sessions.begin() as session:
        caller = api_keys.authenticate(session, key)
        assert caller is not None
        assert caller.scopes == {"read", "admin"}
    run("create-key", "acme")
    assert "revoke one first" in run("create-key", "acme", status=1).output
    listed = run("list-keys", "acme").output
    assert key not in listed
    assert key[-4:] in listed
    with sessions() as session:
        public_id = encode(Prefix.API_KEY, session.scalars(select(ApiKey).order_by(ApiKey.created_at)).first().id)  # type: ignore[union-attr]
    run("revoke-key", public_id)
    assert "no live key" in run("revoke-key", public_id, status=1).output
    assert "no id of the form" in run("revoke-key", "nonsense", status=2).output
    with sessions.begin() as session:
        assert api_keys.authenticate(session, key) is None


def test_endpoints_are_made_listed_enabled_and_reencrypted(run: Run, sessions: Sessions, platform: Platform) -> None:
    public_id, secret = run("create-endpoint", "acme", "https://example.com/hook", "--ordered").output.split()
    assert "not public" in run("create-endpoint", "acme", "https://127.0.0.1/", status=1).output
    with sessions.begin() as session:
        row = session.scalars(select(Endpoint)).one()
        row.secret = SecretBox(["old"]).seal(secret)
        endpoints.disable(session, row)
    assert "no: platform" in run("list-endpoints", "acme").output
    run("enable-endpoint", public_id)
    assert run("reencrypt-secrets").output == "1 endpoints\n"
    with sessions() as session:
        row = session.scalars(select(Endpoint)).one()
        assert row.enabled
        assert SecretBox(["new"]).open(row.secret) == secret


def test_retention_hold_and_erasure(run: Run, sessions: Sessions, platform: Platform) -> None:
    run("set-retention", "acme", "30")
    with sessions.begin() as session:
        assert session.get_one(Platform, platform.id).retention_days == 30
        public_id = encode(Prefix.SCREENING, jobs.enqueue(session, intake(platform.id)).id)
    run("clear-retention", "acme")
    run("hold", public_id)
    assert "legal hold" in run("erase", public_id, "--yes", status=1).output
    run("hold", public_id, "--lift")
    run("erase", public_id, "--yes")
    with sessions() as session:
        assert session.scalars(select(Screening)).one().erased_at is not None
        actions = list(session.scalars(select(AuditEntry.action).order_by(AuditEntry.sequence)))
    assert actions == [
        "platform.retention_set", "platform.retention_set", "screening.held", "screening.hold_lifted",
        "screening.erased",
    ]  # fmt: skip


def test_a_database_or_redis_that_is_away_is_said_in_a_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Redis does not take" in run("purge", status=1).output
    monkeypatch.setenv("ASSAY_DATABASE_URL", "postgresql://127.0.0.1:1/none")
    settings.cache_clear()
    assert "ASSAY_DATABASE_URL does not answer" in run("list-platforms", status=1).output
