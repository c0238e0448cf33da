"""The quality page's figures come from what people decided, and from decided reviews alone."""

from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from screening import decisions, goldens, quality
from screening.actors import Actor, Role
from screening.decisions import Choice
from screening.tables import Platform, Review
from tests import reviewing
from tests.reviewing import actor, policy, screened

Sessions = sessionmaker[Session]


def decide(sessions: Sessions, who: Actor, review_id: Any, verdict: str, seconds: float = 0.0) -> None:
    reviewing.decide(sessions, who, review_id, Choice(verdict), seconds)


def figures(sessions: Sessions, platform: Platform) -> dict[str, Any]:
    with sessions() as session:
        return quality.quality(session, platform.id)


def test_without_decisions_every_figure_says_so(sessions: Sessions, platform: Platform) -> None:
    found = figures(sessions, platform)
    assert found["overturn_rate"] == {"value": None, "n": 0, "low": None, "high": None}
    assert found["queue_precision"] == found["calibration"] == []
    assert sum(b["count"] for b in found["scores"]) == 0


def test_queue_and_automatic_actions_are_measured_apart(sessions: Sessions, platform: Platform) -> None:
    who = actor(platform)
    policy(sessions, platform)
    for score, verdict in ((0.95, "fake"), (0.92, "fake"), (0.6, "authentic")):
        decide(sessions, who, screened(sessions, platform, score=score), verdict)
    policy(sessions, platform, {"otherwise": "allow", "sample": {"share": 1}})
    for verdict in ("authentic", "authentic", "fake"):
        decide(sessions, who, screened(sessions, platform, score=0.1), verdict)
    policy(sessions, platform, {"otherwise": "block", "check_blocks": {"share": 1}})
    decide(sessions, who, screened(sessions, platform, score=0.99), "fake")
    screened(sessions, platform, score=0.99)  # undecided: counts nowhere
    found = figures(sessions, platform)
    [queue] = found["queue_precision"]
    assert (queue["queue"], queue["precision"]["n"]) == ("default", 3)
    assert queue["precision"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert (found["auto_allow_correct"]["n"], found["auto_block_correct"]["n"]) == (3, 1)
    assert found["auto_allow_correct"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["auto_block_correct"]["value"] == 1
    assert [(b["low"], b["fake"]["n"]) for b in found["calibration"]] == [(0.1, 3), (0.6, 1), (0.9, 3)]
    assert found["scores"][-1]["count"] == 3  # 0.95 and above
    assert sum(b["count"] for b in found["scores"]) == 8


def test_people_are_measured_by_second_looks_goldens_and_reversals(sessions: Sessions, platform: Platform) -> None:
    policy(sessions, platform, {"second_review": {"verdicts": ["fake", "authentic"]}})
    first, second, lead = actor(platform), actor(platform), actor(platform, role=Role.LEAD)
    agreed = [screened(sessions, platform) for _ in range(2)]
    for review_id, verdict in zip(agreed, ("fake", "authentic"), strict=True):
        decide(sessions, first, review_id, verdict, seconds=4)
        decide(sessions, second, review_id, verdict, seconds=6)
    with sessions.begin() as session:
        decisions.reverse(session, lead, agreed[0], Choice("authentic", note="seen the original"))
        screening_id = session.get_one(Review, agreed[1]).screening_id
        goldens.add(session, lead, screening_id, "authentic")
        finding_of = session.get_one(Review, agreed[1])
        golden = Review(
            platform_id=platform.id, screening_id=screening_id, queue="default", risk=0.5, rank=finding_of.rank,
            due_at=finding_of.due_at, golden_truth="authentic",
        )  # fmt: skip
        session.add(golden)
    third = actor(platform)
    decide(sessions, third, golden.id, "fake")
    found = figures(sessions, platform)
    assert (found["agreement_alpha"]["value"], found["agreement_alpha"]["n"]) == (1, 2)
    assert (found["agreement_share"]["value"], found["agreement_share"]["n"]) == (1, 2)
    assert (found["golden_accuracy"]["value"], found["golden_accuracy"]["n"]) == (0, 1)
    assert (found["overturn_rate"]["value"], found["overturn_rate"]["n"]) == (0.5, 2)
    by_reviewer = {row["reviewer"]: row["seconds"] for row in found["exposure_by_reviewer"]}
    assert by_reviewer[first.grants[platform.id].alias] == 8
    assert by_reviewer[second.grants[platform.id].alias] == 12
