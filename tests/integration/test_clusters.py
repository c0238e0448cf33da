"""Near-duplicates: found within a platform, decided together, shown as past cases."""

import random
from collections.abc import AsyncIterator, Callable
from uuid import UUID

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from screening import decisions, platforms
from screening.actors import Role
from screening.ids import Prefix, encode
from screening.tables import Event, Image, Platform, Review
from tests.browsing import Browser, browser, reviewer
from tests.reviewing import policy, screened

Sessions = sessionmaker[Session]
Copies = Callable[..., list[UUID]]


@pytest.fixture
async def page(app: FastAPI, sessions: Sessions, platform: Platform) -> AsyncIterator[Browser]:
    policy(sessions, platform)
    person = reviewer(sessions, platform, role=Role.LEAD)
    async with browser(app) as made:
        yield await made.enter(sessions, person)


@pytest.fixture
def copies(sessions: Sessions, platform: Platform, rng: random.Random) -> Copies:
    base = int.from_bytes(rng.randbytes(32), "big")

    def make(*distances: int, owner: Platform = platform, quality: int = 90, turned: bool = False) -> list[UUID]:
        made = []
        for distance in distances:
            review_id = screened(sessions, owner)
            flipped = base
            for bit in rng.sample(range(256), distance):
                flipped ^= 1 << bit
            with sessions.begin() as session:
                screening_id = session.get_one(Review, review_id).screening_id
                image = session.scalars(select(Image).where(Image.screening_id == screening_id)).one()
                image.pdq_hash, image.pdq_quality = flipped.to_bytes(32, "big"), quality
                if turned:  # as it is, it looks like nothing; mirrored, like the others
                    image.pdq_hash = rng.randbytes(32)
                    image.pdq_dihedral = rng.randbytes(32 * 4) + flipped.to_bytes(32, "big") + rng.randbytes(32 * 2)
            made.append(review_id)
        return made

    return make


def path(review_id: UUID) -> str:
    return f"/v1/reviews/{encode(Prefix.REVIEW, review_id)}"


def settle(sessions: Sessions) -> None:
    with sessions.begin() as session:
        for row in session.scalars(select(Review).where(Review.state == "settling")):
            row.settles_at = row.created_at
        session.flush()
        decisions.tend(session)


async def test_a_cluster_holds_near_pending_items_of_the_platform_alone(
    page: Browser, sessions: Sessions, copies: Copies
) -> None:
    near, far = copies(0, 12, 31), copies(60)
    copies(3, quality=10)
    with sessions.begin() as session:
        other = platforms.create(session, "other")
    policy(sessions, other)
    copies(1, owner=other)
    body = (await page.get(f"{path(near[0])}/cluster")).json()
    assert (body["data"][0]["id"], body["data"][0]["distance"]) == (encode(Prefix.REVIEW, near[0]), 0)
    assert {row["id"] for row in body["data"]} == {encode(Prefix.REVIEW, i) for i in near}
    assert encode(Prefix.REVIEW, far[0]) not in str(body)
    late = copies(5)
    assert (await page.get(f"{path(near[0])}/cluster")).json()["count"] == 4, late


async def test_a_mirrored_copy_finds_its_originals(page: Browser, copies: Copies) -> None:
    [original] = copies(2)
    [mirrored] = copies(0, turned=True)
    rows = (await page.get(f"{path(mirrored)}/cluster")).json()["data"]
    assert [(r["id"], r["distance"], r["transform"]) for r in rows[1:]] == [
        (encode(Prefix.REVIEW, original), 2, "mirrored")
    ]


async def test_a_dry_run_changes_nothing_and_the_bulk_decides_exactly_what_it_showed(
    page: Browser, sessions: Sessions, copies: Copies
) -> None:
    ids = copies(0, 4, 8)
    choice = {"verdict": "fake", "reason": "splice"}
    shown = (await page.post(f"{path(ids[0])}/bulk", {"dry_run": True, **choice})).json()
    assert shown["count"] == 3
    assert (await page.get("/v1/reviews/board")).json()["queues"][0]["pending"] == 3
    assert (await page.post(f"{path(ids[0])}/bulk", {"dry_run": False, **choice})).status_code == 422
    copies(2)
    changed = await page.post(f"{path(ids[0])}/bulk", {"dry_run": False, "digest": shown["digest"], **choice})
    assert (changed.status_code, changed.json()["code"]) == (409, "cluster_changed")
    again = (await page.post(f"{path(ids[0])}/bulk", {"dry_run": True, **choice})).json()
    done = await page.post(f"{path(ids[0])}/bulk", {"dry_run": False, "digest": again["digest"], **choice})
    assert done.json()["count"] == 4
    settle(sessions)
    with sessions() as session:
        assert {(r.state, r.verdict) for r in session.scalars(select(Review))} == {("decided", "fake")}
        assert len([t for t in session.scalars(select(Event.type)) if t == "review.decided"]) == 4


async def test_a_bulk_is_undone_as_one(page: Browser, sessions: Sessions, copies: Copies) -> None:
    ids = copies(0, 4)
    choice = {"verdict": "fake"}
    shown = (await page.post(f"{path(ids[0])}/bulk", {"dry_run": True, **choice})).json()
    bulk = {"dry_run": False, "digest": shown["digest"], **choice}
    bulk_id = (await page.post(f"{path(ids[0])}/bulk", bulk)).json()["bulk_id"]
    assert (await page.post(f"/v1/reviews/bulk/{bulk_id}/undo")).json() == {"count": 2}
    assert (await page.post(f"/v1/reviews/bulk/{bulk_id}/undo")).json()["code"] == "too_late"
    settle(sessions)
    with sessions() as session:
        assert {r.state for r in session.scalars(select(Review))} == {"pending"}


async def test_past_cases_show_what_was_decided_about_similar_images(
    page: Browser, sessions: Sessions, copies: Copies
) -> None:
    decided, waiting = copies(0, 6)
    lease = (await page.post(f"{path(decided)}/claim")).json()["lease"]["token"]
    await page.post(f"{path(decided)}/decision", {"lease_token": lease, "verdict": "authentic"})
    assert (await page.get(path(waiting))).json()["similar"] == []
    settle(sessions)
    [case] = (await page.get(path(waiting))).json()["similar"]
    assert (case["review_id"], case["verdict"], case["distance"]) == (encode(Prefix.REVIEW, decided), "authentic", 6)
