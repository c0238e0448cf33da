"""Many reviewers at one queue: nothing is decided twice, nothing is forgotten, a late token changes nothing."""

import os
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, sessionmaker

from screening import audit, decisions, jobs, reviews
from screening.decisions import Choice
from screening.tables import Decision, Event, Platform, Review
from tests.findings import finding, intake
from tests.reviewing import actor, policy

Sessions = sessionmaker[Session]
SOAK = bool(os.environ.get("ASSAY_SOAK"))
ITEMS, REVIEWERS = (2_000, 20) if SOAK else (200, 20)
BATCH = 20


def fill(sessions: Sessions, platform: Platform, rng: random.Random) -> set[UUID]:
    for _ in range(ITEMS // BATCH):  # a session each: one that holds everything looks through it at every flush
        with sessions.begin() as session:
            for _ in range(BATCH):
                jobs.enqueue(session, intake(platform.id))
            for claim in jobs.claim(session, limit=BATCH, worker="w", lease=timedelta(minutes=5)):
                assert jobs.complete(session, claim, finding(claim, score=rng.random()))
    with sessions() as session:
        return set(session.scalars(select(Review.id)))


@pytest.mark.timeout(900)  # the full count on a machine that does other things
def test_reviewers_at_once_decide_each_item_once_and_leave_none(
    sessions: Sessions, platform: Platform, rng: random.Random
) -> None:
    policy(sessions, platform)
    ids = fill(sessions, platform, rng)
    assert len(ids) == ITEMS
    late: Counter[str] = Counter()
    lock = threading.Lock()

    def work(seed: int) -> None:
        chance, who = random.Random(seed), actor(platform)
        stale: list[tuple[UUID, str]] = []
        while True:
            with sessions.begin() as session:
                review = reviews.claim(session, who)
                if review is None:
                    break
                identity, token = review.id, reviews.token(review)
            if chance.random() < 0.1:  # loses its lease, as if ten minutes had passed
                with sessions.begin() as session:
                    session.execute(text("UPDATE reviews SET lease_until = now() WHERE id = :id"), {"id": identity})
                stale.append((identity, token))
                continue
            with sessions.begin() as session:
                decisions.decide(session, who, identity, token, Choice("fake"))
        for identity, token in stale:
            try:
                with sessions.begin() as session:
                    decisions.decide(session, who, identity, token, Choice("authentic"))
            except reviews.LeaseLostError:
                with lock:
                    late["refused"] += 1
            else:
                with lock:
                    late["accepted"] += 1

    with ThreadPoolExecutor(REVIEWERS) as pool:
        for future in [pool.submit(work, rng.randrange(2**32)) for _ in range(REVIEWERS)]:
            future.result()
    _drain(sessions)
    assert late["accepted"] == 0
    assert late["refused"] > 0
    with sessions() as session:
        counts = Counter(session.scalars(select(Decision.review_id).where(Decision.undone_at.is_(None))))
        assert counts == Counter(dict.fromkeys(ids, 1))
        assert set(session.scalars(select(Decision.verdict))) == {"fake"}
        assert session.scalar(select(func.count()).where(Review.state == "decided")) == ITEMS
        decided = select(func.count()).select_from(Event).where(Event.type == "review.decided")
        assert session.scalar(decided) == ITEMS
        assert audit.verify(session).broken_at is None


def _drain(sessions: Sessions) -> None:
    """Settle everything, several sweepers at once."""

    def sweep() -> None:
        while True:
            with sessions.begin() as session:
                session.execute(text("SET LOCAL assay.clock_offset = '1 minute'"))
                if decisions.tend(session, limit=50) == 0:
                    return

    with ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(sweep) for _ in range(3)]:
            future.result()
