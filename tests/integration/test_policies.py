"""A policy judges each finding in the transaction that records it."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload, sessionmaker

from screening import audit, backtest, document, jobs, platforms, policies
from screening.rules import Document, Outcome
from screening.settings import Settings
from screening.tables import Event, Finding, Platform, Review, Screening, ShadowRuling
from tests.findings import finding, intake

Sessions = sessionmaker[Session]
BLOCK = {"rules": [{"name": "fake", "when": [{"field": "score", "op": ">=", "value": 0.5}], "outcome": "block"}]}
REVIEW = {"rules": [{"name": "look", "outcome": "review", "queue": "urgent", "due_seconds": 600}]}
QUIET: dict[str, Any] = {"sample": {"share": 0}, "check_blocks": {"share": 0}}


def made(content: dict[str, Any]) -> Document:
    return Document.model_validate({**QUIET, **content})


def put(sessions: Sessions, platform: Platform, content: dict[str, Any], expected: int = 0) -> int:
    with sessions.begin() as session:
        return policies.put(session, platform.id, made(content), expected_version=expected, actor="operator")


def screen(sessions: Sessions, platform: Platform, details: dict[str, Any] | None = None, **values: Any) -> Screening:
    with sessions.begin() as session:
        screening_id = jobs.enqueue(session, intake(platform.id, details=details)).id
        [held] = jobs.claim(session, limit=1, worker="w1", lease=timedelta(seconds=60))
        assert held.screening_id == screening_id
        assert jobs.complete(session, held, finding(held, **values))
    with sessions() as session:
        loaded = [selectinload(Screening.submission), selectinload(Screening.image), selectinload(Screening.finding)]
        return session.scalars(select(Screening).where(Screening.id == screening_id).options(*loaded)).one()


def outcome(row: Screening) -> tuple[int | None, str | None, str | None, str | None]:
    assert row.finding is not None
    return row.finding.policy_version, row.finding.outcome, row.finding.rule, row.finding.guard


def test_a_platform_without_a_policy_goes_by_the_built_in_one(sessions: Sessions, platform: Platform) -> None:
    row = screen(sessions, platform, score=0.97)
    assert outcome(row) == (0, "review", "likely-fake", None)
    assert row.review is not None
    assert row.review.state == "pending"


def test_the_event_tells_outcome_and_review(sessions: Sessions, platform: Platform) -> None:
    put(sessions, platform, REVIEW)
    row = screen(sessions, platform)
    with sessions() as session:
        data = session.scalars(select(Event.data).where(Event.screening_id == row.id)).one()
    assert row.review is not None
    assert data["policy"] == {"version": 1, "outcome": "review", "rule": "look", "guard": None}
    assert data["review"] == {"id": f"rev_{row.review.id.hex}", "state": "pending"}
    assert document.screening(row, Settings())["review"] == data["review"]
    assert (row.review.queue, row.review.due_at - row.review.created_at) == ("urgent", timedelta(seconds=600))


def test_metadata_of_the_submission_is_what_rules_ask_about(sessions: Sessions, platform: Platform) -> None:
    trusted = {"name": "trusted", "when": [{"field": "metadata.trusted", "op": "==", "value": True}]}
    put(sessions, platform, {"rules": [{**trusted, "outcome": "allow"}], "otherwise": "review"})
    assert outcome(screen(sessions, platform, details={"trusted": True}))[1] == "allow"
    assert outcome(screen(sessions, platform, details={"trusted": "true"}))[1] == "review"


def test_a_stale_writer_is_refused_and_versions_only_grow(sessions: Sessions, platform: Platform) -> None:
    assert put(sessions, platform, BLOCK) == 1
    with pytest.raises(policies.StalePolicyError):
        put(sessions, platform, REVIEW, expected=0)
    with sessions.begin() as session:
        assert policies.put_shadow(session, platform.id, made(REVIEW), actor="operator") == 2
    assert put(sessions, platform, REVIEW, expected=1) == 3
    with sessions() as session:
        assert [row.version for row in policies.versions(session, platform.id)] == [3, 2, 1]
        assert audit.verify(session).entries == 3


def test_the_shadow_is_stored_and_acts_on_nothing(sessions: Sessions, platform: Platform) -> None:
    with sessions.begin() as session:
        policies.put_shadow(session, platform.id, made(BLOCK), actor="operator")
    row = screen(sessions, platform, score=0.45)
    watched = screen(sessions, platform, score=0.9)
    assert outcome(row)[:2] == (0, "review")
    assert outcome(watched)[:2] == (0, "review")
    with sessions() as session:
        shadows = {s.screening_id: s.outcome for s in session.scalars(select(ShadowRuling))}
        assert shadows == {row.id: "allow", watched.id: "block"}
        assert len(session.scalars(select(Review)).all()) == 2


@pytest.mark.parametrize("everywhere", [False, True])
def test_the_kill_switch_acts_on_the_next_finding(sessions: Sessions, platform: Platform, everywhere: bool) -> None:
    put(sessions, platform, BLOCK)
    assert outcome(screen(sessions, platform))[1:] == ("block", "fake", None)
    scope = policies.EVERY_PLATFORM if everywhere else platform.id
    with sessions.begin() as session:
        policies.switch_blocks(session, scope, suspended=True, actor="operator", reason="false positives")
    killed = screen(sessions, platform)
    assert outcome(killed)[1:] == ("review", "fake", "kill_switch")
    assert killed.review is not None
    with sessions.begin() as session:
        policies.switch_blocks(session, scope, suspended=False, actor="operator")
    assert outcome(screen(sessions, platform))[1] == "block"


def test_one_platforms_switch_and_policy_leave_another_alone(sessions: Sessions, platform: Platform) -> None:
    with sessions.begin() as session:
        other = platforms.create(session, "other")
    put(sessions, platform, BLOCK)
    put(sessions, other, BLOCK)
    with sessions.begin() as session:
        policies.switch_blocks(session, platform.id, suspended=True, actor="operator")
    assert outcome(screen(sessions, other))[1] == "block"


def test_a_backtest_counts_flips_and_changes_nothing(sessions: Sessions, platform: Platform) -> None:
    rows = [screen(sessions, platform, score=score) for score in (0.1, 0.45, 0.6, 0.95)]
    doubtful = screen(sessions, platform, score=0.9, mask_verdict_conflict=True)
    with sessions() as session:
        before = session.scalars(select(Event.id).order_by(Event.id)).all()
        result = backtest.run(session, platform.id, made(BLOCK), version=1)
        assert not session.new
        assert not session.dirty
        assert session.scalars(select(Event.id).order_by(Event.id)).all() == before
        assert session.scalars(select(Finding.outcome).where(Finding.screening_id == doubtful.id)).one() == "review"
    assert result.judged == 5
    assert not result.truncated
    assert result.becomes == {Outcome.ALLOW: 2, Outcome.BLOCK: 2, Outcome.REVIEW: 1}
    assert result.flips[("review", "block")] == 2
    assert result.flips[("review", "allow")] == 1
    assert {flip.screening_id for flip in result.examples} == {row.id for row in rows[1:]}


def test_a_backtest_reads_no_further_than_its_limit_and_no_other_platform(
    sessions: Sessions, platform: Platform
) -> None:
    for score in (0.1, 0.6, 0.6):
        screen(sessions, platform, score=score)
    with sessions.begin() as session:
        other = platforms.create(session, "other")
        limited = backtest.run(session, platform.id, made(BLOCK), version=1, limit=2)
        assert (limited.judged, limited.truncated) == (2, True)
        assert backtest.run(session, other.id, made(BLOCK), version=1).judged == 0
