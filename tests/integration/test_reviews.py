"""A review is claimed by one person at a time, decided once, undone within the window, and settles by itself."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from screening import audit, decisions, goldens, jobs, platforms, reviews
from screening.actors import Actor, NotGrantedError, Role, RoleTooSmallError
from screening.decisions import Choice
from screening.tables import Decision, Event, Platform, Provenance, Review, Screening
from tests.reviewing import actor, policy, screened

Sessions = sessionmaker[Session]
T = TypeVar("T")
FAKE, AUTHENTIC = Choice("fake"), Choice("authentic")
MINUTE = "1 minute"


def at(sessions: Sessions, offset: str, work: Callable[[Session], T]) -> T:
    """One transaction at a later time."""
    with sessions.begin() as session:
        session.execute(text("SELECT set_config('assay.clock_offset', :offset, true)"), {"offset": offset})
        return work(session)


def claim(sessions: Sessions, who: Actor, offset: str = "0", **wanted: Any) -> Review | None:
    return at(sessions, offset, lambda s: reviews.claim(s, who, **wanted))


def taken(sessions: Sessions, who: Actor, offset: str = "0") -> Review:
    review = claim(sessions, who, offset)
    assert review is not None
    return review


def golden_or_not(sessions: Sessions, who: Actor) -> Review:
    review = at(sessions, "0", lambda s: goldens.claim(s, who))
    assert review is not None
    return review


def decide(sessions: Sessions, who: Actor, choice: Choice = FAKE, offset: str = "0") -> UUID:
    review = taken(sessions, who, offset)
    at(sessions, offset, lambda s: decisions.decide(s, who, review.id, reviews.token(review), choice))
    return review.id


def tend(sessions: Sessions, offset: str = MINUTE) -> int:
    return at(sessions, offset, decisions.tend)


def row(sessions: Sessions, review_id: UUID) -> Review:
    with sessions() as session:
        return session.get_one(Review, review_id)


def events(sessions: Sessions, kind: str = "review") -> list[dict[str, Any]]:
    with sessions() as session:
        return list(
            session.scalars(select(Event.data).where(Event.type.like(f"{kind}%")).order_by(Event.created_at, Event.id))
        )


@pytest.fixture(autouse=True)
def _everything_reviewed(sessions: Sessions, platform: Platform) -> None:
    policy(sessions, platform)


@pytest.mark.parametrize(("later", "first"), [("1 hour", "risky"), ("5 hours", "calm")])
def test_riskier_items_come_first_but_waiting_overtakes_risk(
    sessions: Sessions, platform: Platform, later: str, first: str
) -> None:
    ids = {"calm": screened(sessions, platform, score=0.1)}
    ids["risky"] = screened(sessions, platform, offset=later, score=0.99)
    assert taken(sessions, actor(platform), later).id == ids[first]


def test_a_claimed_review_is_nobody_elses(sessions: Sessions, platform: Platform) -> None:
    screened(sessions, platform)
    first, second = actor(platform), actor(platform)
    review = taken(sessions, first)
    assert claim(sessions, second) is None
    with pytest.raises(reviews.NotClaimableError):
        at(sessions, "0", lambda s: reviews.claim_this(s, second, review.id))
    with pytest.raises(reviews.LeaseLostError):
        at(sessions, "0", lambda s: decisions.decide(s, second, review.id, reviews.token(review), FAKE))


def test_a_lease_that_ended_goes_to_the_next_and_the_late_token_is_refused(
    sessions: Sessions, platform: Platform
) -> None:
    screened(sessions, platform)
    late, prompt = actor(platform), actor(platform)
    review = taken(sessions, late)
    with pytest.raises(reviews.LeaseLostError):
        at(sessions, "11 minutes", lambda s: decisions.decide(s, late, review.id, reviews.token(review), FAKE))
    assert taken(sessions, prompt, "11 minutes").id == review.id
    with pytest.raises(reviews.LeaseLostError):
        at(sessions, "11 minutes", lambda s: reviews.extend(s, late, review.id, reviews.token(review)))


def test_a_token_of_an_earlier_claim_by_the_same_person_is_late_too(sessions: Sessions, platform: Platform) -> None:
    screened(sessions, platform)
    who = actor(platform)
    review = taken(sessions, who)
    old = reviews.token(review)
    at(sessions, "0", lambda s: reviews.release(s, who, review.id, old))
    again = taken(sessions, who)
    assert (again.id, again.claim) == (review.id, 2)
    with pytest.raises(reviews.LeaseLostError):
        at(sessions, "0", lambda s: decisions.decide(s, who, review.id, old, FAKE))


def test_an_extension_keeps_the_token_and_moves_the_end(sessions: Sessions, platform: Platform) -> None:
    screened(sessions, platform)
    who = actor(platform)
    review = taken(sessions, who)
    lease = at(sessions, "9 minutes", lambda s: reviews.extend(s, who, review.id, reviews.token(review)))
    assert lease.token == reviews.token(review)
    assert claim(sessions, actor(platform), "15 minutes") is None
    at(sessions, "15 minutes", lambda s: decisions.decide(s, who, review.id, lease.token, FAKE))


def test_a_decision_settles_by_itself_with_one_event_and_one_audit_entry(
    sessions: Sessions, platform: Platform
) -> None:
    screened(sessions, platform)
    review_id = decide(sessions, actor(platform), Choice("fake", reason="splice", note="Look at the seam"))
    assert tend(sessions, "5 seconds") == 0
    assert events(sessions) == []
    assert [tend(sessions), tend(sessions)] == [1, 0]
    settled = row(sessions, review_id)
    assert (settled.state, settled.verdict, settled.action) == ("decided", "fake", "block")
    [event] = events(sessions)
    assert event["decision"] | {"id": "", "reviewer": ""} == {
        "id": "", "reviewer": "", "verdict": "fake", "action": "block", "reason": "splice", "mask_feedback": None,
        "reverses": None,
    }  # fmt: skip
    assert "seam" not in str(event)
    with sessions() as session:
        assert audit.verify(session).entries == 2  # the policy, the decision


def test_undo_within_the_window_leaves_no_trace_outside(sessions: Sessions, platform: Platform) -> None:
    screened(sessions, platform)
    who = actor(platform)
    review_id = decide(sessions, who)
    again = at(sessions, "5 seconds", lambda s: decisions.undo(s, who, review_id))
    assert tend(sessions) == 0
    at(sessions, MINUTE, lambda s: decisions.decide(s, who, review_id, reviews.token(again), AUTHENTIC))
    tend(sessions, "2 minutes")
    assert [e["decision"]["verdict"] for e in events(sessions)] == ["authentic"]


def test_undo_after_the_window_is_too_late_even_before_anybody_settled(sessions: Sessions, platform: Platform) -> None:
    screened(sessions, platform)
    who, other = actor(platform), actor(platform)
    review_id = decide(sessions, who)
    with pytest.raises(decisions.TooLateError):
        at(sessions, "5 seconds", lambda s: decisions.undo(s, other, review_id))
    with pytest.raises(decisions.TooLateError):
        at(sessions, "11 seconds", lambda s: decisions.undo(s, who, review_id))


def test_a_skipped_item_comes_back_to_the_skipper_only_later(sessions: Sessions, platform: Platform) -> None:
    screened(sessions, platform)
    who = actor(platform)
    review = taken(sessions, who)
    at(sessions, "0", lambda s: reviews.skip(s, who, review.id, reviews.token(review), "unclear"))
    assert claim(sessions, who) is None
    assert taken(sessions, who, "61 minutes").id == review.id


def test_what_three_people_skip_goes_to_a_lead(sessions: Sessions, platform: Platform) -> None:
    screened(sessions, platform)
    for _ in range(3):
        who = actor(platform)
        review = taken(sessions, who)
        at(sessions, "0", lambda s, w=who, r=review: reviews.skip(s, w, r.id, reviews.token(r), "unclear"))  # type: ignore[misc]
    assert claim(sessions, actor(platform)) is None
    assert [e["reason"] for e in events(sessions)] == ["skipped"]
    assert taken(sessions, actor(platform, role=Role.LEAD)).id == review.id


def test_an_escalated_item_is_for_leads_and_the_platform_hears(sessions: Sessions, platform: Platform) -> None:
    screened(sessions, platform)
    who, lead = actor(platform), actor(platform, role=Role.LEAD)
    review = taken(sessions, who)
    at(sessions, "0", lambda s: reviews.escalate(s, who, review.id, reviews.token(review), "a minor"))
    assert claim(sessions, actor(platform)) is None
    assert [e["reason"] for e in events(sessions, "review.escalated")] == ["escalated"]
    decide(sessions, lead, AUTHENTIC)
    tend(sessions)
    assert row(sessions, review.id).verdict == "authentic"


def test_a_second_person_decides_blind_and_agreement_is_final(sessions: Sessions, platform: Platform) -> None:
    policy(sessions, platform, {"second_review": {"actions": ["block"]}})
    screened(sessions, platform)
    first, second = actor(platform), actor(platform)
    review_id = decide(sessions, first)
    tend(sessions)
    between = row(sessions, review_id)
    assert (between.state, between.stage, between.verdict, between.action) == ("pending", "second", None, None)
    assert events(sessions) == []
    assert claim(sessions, first, MINUTE) is None
    assert decide(sessions, second, offset=MINUTE) == review_id
    tend(sessions, "2 minutes")
    assert row(sessions, review_id).state == "decided"
    assert len(events(sessions)) == 1


def test_disagreement_goes_to_a_lead_who_has_the_last_word(sessions: Sessions, platform: Platform) -> None:
    policy(sessions, platform, {"second_review": {"verdicts": ["fake"]}})
    screened(sessions, platform)
    review_id = decide(sessions, actor(platform))
    tend(sessions)
    decide(sessions, actor(platform), AUTHENTIC, MINUTE)
    tend(sessions, "2 minutes")
    assert claim(sessions, actor(platform), "2 minutes") is None
    assert [e["reason"] for e in events(sessions)] == ["reviewers_disagree"]
    decide(sessions, actor(platform, role=Role.LEAD), FAKE, "2 minutes")
    tend(sessions, "3 minutes")
    assert (row(sessions, review_id).state, row(sessions, review_id).verdict) == ("decided", "fake")


def test_a_verdict_that_needs_no_second_person_is_final_at_once(sessions: Sessions, platform: Platform) -> None:
    policy(sessions, platform, {"second_review": {"verdicts": ["fake"]}})
    screened(sessions, platform)
    review_id = decide(sessions, actor(platform), AUTHENTIC)
    tend(sessions)
    assert row(sessions, review_id).state == "decided"


def test_a_reversal_is_a_decision_beside_the_first_and_an_event_of_its_own(
    sessions: Sessions, platform: Platform
) -> None:
    screened(sessions, platform)
    review_id = decide(sessions, actor(platform))
    tend(sessions)
    lead = actor(platform, role=Role.LEAD)
    with pytest.raises(RoleTooSmallError):
        at(sessions, MINUTE, lambda s: decisions.reverse(s, actor(platform), review_id, AUTHENTIC))
    made = at(sessions, MINUTE, lambda s: decisions.reverse(s, lead, review_id, AUTHENTIC))
    [first] = events(sessions)
    [reversal] = events(sessions, "decision.reversed")
    assert reversal["decision"]["reverses"] == first["decision"]["id"]
    assert row(sessions, review_id).verdict == "authentic"
    with sessions() as session:
        assert len(session.scalars(select(Decision)).all()) == 2
        assert decisions.standing_decision(session, session.get_one(Review, review_id)).id == made.id


def test_what_is_not_decided_cannot_be_reversed(sessions: Sessions, platform: Platform) -> None:
    review_id = screened(sessions, platform)
    with pytest.raises(decisions.NotDecidedError):
        at(sessions, "0", lambda s: decisions.reverse(s, actor(platform, role=Role.LEAD), review_id, FAKE))


def test_a_reason_must_be_the_policys_and_fit_the_verdict(sessions: Sessions, platform: Platform) -> None:
    screened(sessions, platform)
    who = actor(platform)
    review = taken(sessions, who)
    for choice in (Choice("fake", reason="boredom"), Choice("fake", reason="no_trace")):
        with pytest.raises(decisions.UnknownReasonError):
            at(sessions, "0", lambda s, c=choice: decisions.decide(s, who, review.id, reviews.token(review), c))  # type: ignore[misc]
    assert tend(sessions) == 0


def test_without_a_grant_a_platforms_reviews_do_not_exist(sessions: Sessions, platform: Platform) -> None:
    review_id = screened(sessions, platform)
    with sessions.begin() as session:
        other = platforms.create(session, "other")
    stranger = actor(other)
    assert claim(sessions, stranger) is None
    assert claim(sessions, stranger, platform_ids=[platform.id]) is None
    for act in (reviews.visible, reviews.claim_this):
        with pytest.raises(NotGrantedError):
            at(sessions, "0", lambda s, a=act: a(s, stranger, review_id))  # type: ignore[misc]


def test_nobody_hoards(sessions: Sessions, platform: Platform) -> None:
    for _ in range(6):
        screened(sessions, platform)
    who = actor(platform)
    for _ in range(reviews.MOST_CLAIMS):
        taken(sessions, who)
    with pytest.raises(reviews.TooManyClaimsError):
        claim(sessions, who)


def test_a_queue_can_be_worked_by_itself(sessions: Sessions, platform: Platform) -> None:
    screened(sessions, platform, score=0.99)
    policy(sessions, platform, {"rules": [{"name": "slow", "outcome": "review", "queue": "slow"}]})
    slow = screened(sessions, platform, score=0.1)
    review = claim(sessions, actor(platform), queue="slow")
    assert review is not None
    assert review.id == slow


def test_erasing_withdraws_what_is_open_and_empties_notes(sessions: Sessions, platform: Platform) -> None:
    decided, waiting = screened(sessions, platform, score=0.9), screened(sessions, platform, score=0.1)
    assert decide(sessions, actor(platform), Choice("fake", note="his face")) == decided
    tend(sessions)
    for review_id in (decided, waiting):
        with sessions.begin() as session:
            jobs.erase(session, session.get_one(Screening, session.get_one(Review, review_id).screening_id))
    assert row(sessions, waiting).state == "withdrawn"
    assert row(sessions, decided).state == "decided"
    assert claim(sessions, actor(platform)) is None
    with sessions() as session:
        assert session.scalars(select(Decision.note)).all() == [None]
        assert audit.verify(session).broken_at is None


def test_who_holds_an_image_that_is_erased_learns_why_it_is_gone(sessions: Sessions, platform: Platform) -> None:
    screened(sessions, platform)
    who = actor(platform)
    review = taken(sessions, who)
    with sessions.begin() as session:
        session.add(Provenance(screening_id=review.screening_id, platform_id=platform.id, exif=[], c2pa={},
                               gps={"latitude": 1, "longitude": 2}))  # fmt: skip
    at(sessions, "0", lambda s: jobs.erase(s, s.get_one(Screening, review.screening_id)))
    token = reviews.token(review)
    for act in (
        lambda s: decisions.decide(s, who, review.id, token, FAKE),
        lambda s: reviews.extend(s, who, review.id, token),
        lambda s: reviews.skip(s, who, review.id, token, "other"),
        lambda s: reviews.claim_this(s, who, review.id),
    ):
        with pytest.raises(reviews.WithdrawnError, match="erased this image"):
            at(sessions, "0", act)
    with sessions() as session:
        assert session.scalars(select(Decision)).all() == []
        assert session.scalars(select(Provenance)).all() == []  # where it was taken is gone as well


def test_what_was_fetched_ahead_takes_time_only_from_the_decision_before(
    sessions: Sessions, platform: Platform
) -> None:
    for _ in range(2):
        screened(sessions, platform)
    who = actor(platform)
    first, ahead = taken(sessions, who), taken(sessions, who)
    for review, offset in ((first, "30 seconds"), (ahead, "40 seconds")):
        at(sessions, offset, lambda s, r=review: decisions.decide(s, who, r.id, reviews.token(r), FAKE))  # type: ignore[misc]
    with sessions() as session:
        spent = session.scalars(select(Decision.seconds).order_by(Decision.created_at)).all()
    assert spent == pytest.approx([30, 10], abs=5)


def test_golden_items_come_at_their_rate_once_a_reviewer_and_tell_nobody(
    sessions: Sessions, platform: Platform
) -> None:
    known = screened(sessions, platform, score=0.2)
    lead = actor(platform, role=Role.LEAD)
    screening_id = row(sessions, known).screening_id
    at(sessions, "0", lambda s: goldens.add(s, lead, screening_id, "authentic"))
    policy(sessions, platform, {"golden_share": 0.5, "second_review": {"verdicts": ["fake", "authentic"]}})
    waiting = [screened(sessions, platform, score=0.9) for _ in range(3)]
    who = actor(platform)
    seen = []
    for _ in range(60):  # a share of a half that never comes in 60 draws has a chance of 1e-18
        review = golden_or_not(sessions, who)
        if review.golden_truth is not None:
            break
        at(sessions, "0", lambda s, r=review: reviews.release(s, who, r.id, reviews.token(r)))  # type: ignore[misc]
        seen.append(review.id)
    assert (review.golden_truth, review.screening_id, review.queue) == ("authentic", screening_id, "default")
    assert set(seen) <= set(waiting)
    at(sessions, "0", lambda s: decisions.decide(s, who, review.id, reviews.token(review), FAKE))
    tend(sessions)
    assert row(sessions, review.id).state == "decided"
    assert events(sessions) == []
    for _ in range(20):
        other = golden_or_not(sessions, who)
        assert other.golden_truth is None
        at(sessions, "0", lambda s, r=other: reviews.release(s, who, r.id, reviews.token(r)))  # type: ignore[misc]


def test_the_lease_is_ten_minutes(sessions: Sessions, platform: Platform) -> None:
    screened(sessions, platform)
    review = taken(sessions, actor(platform))
    assert review.claimed_at is not None
    assert reviews.lease(review).expires_at - review.claimed_at == timedelta(minutes=10)
