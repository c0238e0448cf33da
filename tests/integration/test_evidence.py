"""A decision can be defended: a pack that verifies offline, and commands that find what was altered."""

import json
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fastapi import FastAPI
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from screening import decisions
from screening import settings as environment
from screening.actors import Role
from screening.commands.admin import admin
from screening.ids import Prefix, encode
from screening.settings import Settings
from screening.tables import Platform, Review
from tests import pictures
from tests.browsing import Browser, browser, reviewer
from tests.reviewing import policy, screened, with_files

Sessions = sessionmaker[Session]
Assay = Callable[..., Result]


@pytest.fixture
def assay(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Assay]:
    """`assay admin` on the test's database."""
    monkeypatch.setenv("ASSAY_DATABASE_URL", settings.database_url)
    environment.settings.cache_clear()
    yield lambda *arguments, **options: CliRunner().invoke(admin, arguments, **options)
    environment.settings.cache_clear()


@pytest.fixture
async def page(app: FastAPI, sessions: Sessions, platform: Platform) -> AsyncIterator[Browser]:
    policy(sessions, platform)
    person = reviewer(sessions, platform, role=Role.LEAD)
    async with browser(app) as made:
        yield await made.enter(sessions, person)


@pytest.fixture
async def pack(
    page: Browser, sessions: Sessions, platform: Platform, settings: Settings, tmp_path: Path
) -> tuple[Path, str]:
    """The pack of a decided review, with its path."""
    made = screened(sessions, platform)
    with_files(sessions, settings.blob_url, made, pictures.jpeg(64, 48))
    path = f"/v1/reviews/{encode(Prefix.REVIEW, made)}"
    lease = (await page.post(f"{path}/claim")).json()["lease"]["token"]
    assert (await page.get(f"{path}/evidence")).json()["code"] == "not_decided"
    await page.post(f"{path}/decision", {"lease_token": lease, "verdict": "fake", "note": "seam"})
    with sessions.begin() as session:
        review = session.get_one(Review, made)
        review.settles_at = review.created_at
        session.flush()
        decisions.tend(session)
    answer = await page.get(f"{path}/evidence")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip"), answer.text
    target = tmp_path / "pack.zip"
    target.write_bytes(answer.content)
    return target, path


def altered(pack: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(pack) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    target = pack.with_name("altered.zip")
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target


def rewrite(members: dict[str, bytes], name: str, old: str, new: str) -> None:
    assert old in members[name].decode()
    members[name] = members[name].replace(old.encode(), new.encode())


async def test_a_pack_holds_the_case_and_verifies_without_us(
    pack: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_DATABASE_URL", "postgresql://nowhere.invalid/none")
    environment.settings.cache_clear()
    with zipfile.ZipFile(pack[0]) as archive:
        assert {"manifest.json", "image.jpeg", "mask.png", "heatmap.png", "audit.json"} <= set(archive.namelist())
        assert json.loads(archive.read("decisions.json"))["decisions"][0]["note"] == "seam"
    result = CliRunner().invoke(admin, ["verify-evidence", str(pack[0])])
    environment.settings.cache_clear()
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update({"mask.png": m["mask.png"] + b"x"}), "mask.png has been altered"),
        (lambda m: m.pop("heatmap.png"), "heatmap.png is missing"),
        (lambda m: m.update({"extra.txt": b"x"}), "extra.txt is not in the manifest"),
        (lambda m: m.pop("manifest.json"), "no usable manifest.json"),
        (lambda m: rewrite(m, "decisions.json", '"fake"', '"authentic"'), "decisions.json has been altered"),
        (lambda m: rewrite(m, "audit.json", "decision.settled", "decision.dreamt"), "does not match its hash"),
    ],
)
async def test_whatever_is_altered_is_named(
    pack: tuple[Path, str], change: Callable[[dict[str, bytes]], None], said: str
) -> None:
    result = CliRunner().invoke(admin, ["verify-evidence", str(altered(pack[0], change))])
    assert result.exit_code == 1
    assert said in result.output


def test_what_is_no_zip_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "pack.zip").write_bytes(b"hello")
    assert CliRunner().invoke(admin, ["verify-evidence", str(tmp_path / "pack.zip")]).exit_code == 1


async def test_making_a_pack_is_recorded_and_the_trail_is_read_by_leads(
    page: Browser, pack: tuple[Path, str], assay: Assay
) -> None:
    entries = (await page.get("/v1/audit")).json()["data"]
    assert [e["action"] for e in entries] == ["evidence.packed", "decision.settled", "reviewer.granted", "policy.put"]
    subject = pack[1].rsplit("/", 1)[1]
    assert len((await page.get(f"/v1/audit?subject={subject}")).json()["data"]) == 2
    assert assay("verify-audit").exit_code == 0


async def test_an_altered_chain_is_found_from_the_command_line(
    pack: tuple[Path, str], assay: Assay, engine: Engine
) -> None:
    whole = assay("verify-audit")
    head = whole.output.split()[-1]
    assert assay("verify-audit", "--expect-head", head).exit_code == 0
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        last = connection.scalar(text("SELECT max(sequence) FROM audit_entries"))
        connection.execute(text("DELETE FROM audit_entries WHERE sequence = :last"), {"last": last})
    assert assay("verify-audit").exit_code == 0  # cut short, a chain is whole in itself
    assert assay("verify-audit", "--expect-head", head).exit_code == 1
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("UPDATE audit_entries SET actor = 'nobody' WHERE sequence = 2"))
    broken = assay("verify-audit")
    assert (broken.exit_code, "Entry 2:" in broken.output) == (1, True), broken.output


async def test_reviewers_are_made_and_unmade_from_the_command_line(
    app: FastAPI, platform: Platform, assay: Assay
) -> None:
    made = assay(
        "create-reviewer", "grace@example.com", "--name", "Grace", "--password-stdin", input="long enough, surely\n"
    )
    assert made.exit_code == 0, made.output
    assert assay("create-reviewer", "Grace@example.com").exit_code == 1
    assert assay("create-reviewer", "short@example.com", "--password-stdin", input="short\n").exit_code == 1
    assert assay("grant", "grace@example.com", "acme", "lead").exit_code == 0
    assert "lead of acme" in assay("list-reviewers").output
    async with browser(app) as visitor:
        assert (await visitor.try_sign_in("grace@example.com", "long enough, surely")).status_code == 200
        assert (await visitor.get("/v1/reviews/board")).json()["queues"] == []
        assert assay("revoke-grant", "grace@example.com", "acme").exit_code == 0
        assert (await visitor.get("/v1/policy")).status_code == 422
        assert assay("disable-reviewer", "grace@example.com").exit_code == 0
        assert (await visitor.get("/v1/reviews/board")).status_code == 401


async def test_the_global_kill_switch_is_the_operators(page: Browser, assay: Assay) -> None:
    assert assay("kill-switch", "on", "--reason", "bad weights").exit_code == 0
    assert (await page.get("/v1/policy")).json()["blocks_suspended"] is True
    assert assay("kill-switch", "off").exit_code == 0
    assert (await page.get("/v1/policy")).json()["blocks_suspended"] is False
