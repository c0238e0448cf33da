"""What a batch has found is recorded together, and yet each of its images stands or falls by itself."""

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, event, select, text
from sqlalchemy.orm import Session, sessionmaker

from screening import endpoints, jobs, platforms, policies
from screening.blobs import screening_prefix
from screening.blobs.local import LocalStore
from screening.findings import Completion
from screening.jobs import Claim
from screening.rules import Document
from screening.settings import Settings
from screening.tables import (
    Attempt,
    Delivery,
    Event,
    Finding,
    Image,
    Platform,
    Provenance,
    Review,
    Screening,
    ShadowRuling,
    State,
)
from screening.webhook_secrets import SecretBox
from tests.findings import finding, intake
from tests.running_line import CHECKPOINT
from worker.defakerone import DeFakerOne
from worker.leases import Leases
from worker.ledger import Ledger
from worker.recording import Recorder, Result
from worker.telling import Telling
from worker.twins import Twins

Sessions = sessionmaker[Session]
LEASE = timedelta(seconds=60)
BOX = SecretBox(["test-key"])
IMAGE = {
    "format": "png", "width": 64, "height": 48, "frames": 1, "orientation_applied": True, "pdq_hash": bytes(range(32)),
    "pdq_quality": 90, "pdq_dihedral": bytes(7 * 32),
}  # fmt: skip
SAID: dict[str, Any] = {
    "c2pa": {"state": "absent", "generator": None, "claims": []}, "exif": [{"name": "Make", "value": "Ä \\ \"x\""}],
    "gps": {"latitude": 1.25, "longitude": -0.1}, "jpeg": None, "thumbnail": None, "conflicts": ["thumbnail_mismatch"],
}  # fmt: skip
FILES = {"mask": b"\x89PNG mask", "heatmap": b"\x89PNG heat map"}


def claimed(sessions: Sessions, *whose: Platform) -> list[Claim]:
    """One running screening of each of these platforms, in their order."""
    with sessions.begin() as session:
        ids = [jobs.enqueue(session, intake(p.id, str(n).encode())).id for n, p in enumerate(whose)]
    with sessions.begin() as session:
        claims = jobs.claim(session, limit=len(whose), worker="w1", lease=LEASE)
    return sorted(claims, key=lambda claim: ids.index(claim.screening_id))


def lose(sessions: Sessions, claim: Claim) -> None:
    """Have another worker hold this claim's row."""
    with sessions.begin() as session:
        session.execute(text("UPDATE screenings SET due_at = now() WHERE id = :id"), {"id": claim.screening_id})
        assert jobs.rescue(session, limit=10, max_strikes=3) == 1
        [other] = jobs.claim_alone(session, worker="w2", lease=LEASE)
        assert other.screening_id == claim.screening_id


def complete(sessions: Sessions, claims: list[Claim], **values: Any) -> set[UUID]:
    with sessions.begin() as session:
        return jobs.complete_all(session, [Completion(c, finding(c, **values), IMAGE, SAID) for c in claims])


def ids(claims: list[Claim]) -> set[UUID]:
    return {claim.screening_id for claim in claims}


def found(sessions: Sessions, column: Any) -> list[Any]:
    """All there is in one column."""
    with sessions() as session:
        return list(session.scalars(select(column)))


def states(sessions: Sessions, claims: list[Claim]) -> list[str]:
    with sessions() as session:
        return [session.get_one(Screening, claim.screening_id).state for claim in claims]


@pytest.fixture
def other(sessions: Sessions) -> Platform:
    with sessions.begin() as session:
        return platforms.create(session, "other")


def test_eight_images_of_two_platforms_end_with_one_event_each_for_those_who_listen(
    sessions: Sessions, platform: Platform, other: Platform
) -> None:
    with sessions.begin() as session:
        every, _ = endpoints.create(session, BOX, platform.id, "https://every.test")
        wants, _ = endpoints.create(session, BOX, platform.id, "https://wants.test", types=["screening.completed"])
        endpoints.create(session, BOX, platform.id, "https://failures.test", types=["screening.failed"])
    claims = claimed(sessions, *[platform, other] * 4)
    assert complete(sessions, claims) == ids(claims)
    assert states(sessions, claims) == [State.SUCCEEDED] * 8
    assert Counter(found(sessions, Event.screening_id)) == dict.fromkeys(ids(claims), 1)
    assert Counter(found(sessions, Delivery.endpoint_id)) == {every.id: 4, wants.id: 4}
    assert Counter(found(sessions, Delivery.platform_id)) == {platform.id: 8}
    assert found(sessions, Attempt.outcome) == ["succeeded"] * 8


def test_every_column_arrives_as_it_was(sessions: Sessions, platform: Platform) -> None:
    [claim] = claimed(sessions, platform)
    values: dict[str, Any] = {
        "score": 0.1 + 0.2, "probability": 1e-17, "reasons": ["a", 'b"c', "d,e"], "mask_sha256": bytes(range(32)),
        "regions": [{"bbox": [1, 2, 3, 4], "area_fraction": 1 / 3, "mean": 0.5, "max": 1.0}],
    }  # fmt: skip
    complete(sessions, [claim], **values)
    with sessions() as session:
        row = session.get_one(Finding, claim.screening_id)
        image = session.scalars(select(Image)).one()
        said = session.get_one(Provenance, claim.screening_id)
        data = session.scalars(select(Event.data)).one()
    assert {name: getattr(row, name) for name in values} == values
    assert (row.calibration_id, row.provenance_conflict, row.accepted_at) == (None, False, claim.created_at)
    assert {name: getattr(image, name) for name in IMAGE} == IMAGE
    assert {name: getattr(said, name) for name in SAID} == SAID
    assert (data["localization"]["regions"], data["image"]["format"]) == (values["regions"], "png")


def test_one_stale_row_among_eight_changes_nothing_and_harms_no_neighbour(
    sessions: Sessions, platform: Platform
) -> None:
    claims = claimed(sessions, *[platform] * 8)
    stale, kept = claims[3], claims[:3] + claims[4:]
    lose(sessions, stale)
    assert complete(sessions, claims) == ids(kept)
    assert states(sessions, [stale]) == [State.RUNNING]
    assert states(sessions, kept) == [State.SUCCEEDED] * 7
    for column in (Finding.screening_id, Provenance.screening_id, Event.screening_id):
        assert Counter(found(sessions, column)) == dict.fromkeys(ids(kept), 1)
    with sessions() as session:
        assert session.scalars(select(Image.format).where(Image.screening_id == stale.screening_id)).one() == "jpeg"


def test_each_platform_of_a_batch_is_judged_by_its_own_policy(
    sessions: Sessions, platform: Platform, other: Platform
) -> None:
    blocks: dict[str, Any] = {"rules": [], "otherwise": "block", "check_blocks": {"share": 0}}
    reviews: dict[str, Any] = {"rules": [], "otherwise": "review"}
    with sessions.begin() as session:
        third, fourth = (platforms.create(session, name) for name in ("third", "fourth"))
        for who, content in ((platform, blocks), (other, reviews), (third, blocks)):
            policies.put(session, who.id, Document.model_validate(content), expected_version=0, actor="operator")
        policies.put_shadow(session, other.id, Document.model_validate(blocks), actor="operator")
        policies.switch_blocks(session, third.id, suspended=True, actor="operator")
    claims = claimed(sessions, platform, other, third, fourth, platform, other, third, fourth)
    complete(sessions, claims, score=0.1, label="authentic")
    with sessions() as session:
        rows = [session.get_one(Finding, claim.screening_id) for claim in claims]
        reviewed = set(session.scalars(select(Review.screening_id)))
        watched = dict(session.execute(select(ShadowRuling.screening_id, ShadowRuling.outcome)).all())
        events = {row.screening_id: row.data for row in session.scalars(select(Event))}
    assert [row.outcome for row in rows[:3]] == ["block", "review", "review"]
    assert [row.guard for row in rows[:3]] == [None, None, "kill_switch"]
    assert [row.policy_version for row in rows] == [1, 1, 1, 0] * 2
    assert reviewed == {row.screening_id for row in rows if row.outcome == "review"}
    assert watched == dict.fromkeys((claims[1].screening_id, claims[5].screening_id), "block")
    for row in rows:
        assert events[row.screening_id]["policy"]["outcome"] == row.outcome
        assert (events[row.screening_id]["review"] is not None) == (row.screening_id in reviewed)


@contextmanager
def statements(engine: Engine) -> Iterator[list[bool]]:
    """What is sent to the database meanwhile; for each statement, whether it went row by row."""
    sent: list[bool] = []

    def note(_c: Connection, _cursor: Any, _s: str, _p: Any, _context: Any, executemany: bool) -> None:
        sent.append(executemany)

    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


def test_a_batch_takes_no_more_statements_than_one_image_and_none_goes_row_by_row(
    sessions: Sessions, platform: Platform, engine: Engine
) -> None:
    """A worker stopped between the messages of an `executemany` keeps its locks for as long as it stands still."""
    alone, *batch = claimed(sessions, *[platform] * 9)
    with statements(engine) as for_one:
        complete(sessions, [alone])
    with statements(engine) as for_eight:
        complete(sessions, batch)
    assert len(for_eight) == len(for_one)
    assert not any(for_one + for_eight)


def test_batches_and_heartbeats_that_meet_never_wait_for_each_other_in_a_circle(
    sessions: Sessions, platform: Platform, rng: random.Random
) -> None:
    for _ in range(10):
        claims = claimed(sessions, *[platform] * 24)
        parts = [claims[:12], claims[12:]]

        def beat(held: list[Claim]) -> None:
            with sessions.begin() as session:
                jobs.heartbeat(session, held, lease=LEASE)

        with ThreadPoolExecutor(4) as pool:
            beats = [pool.submit(beat, rng.sample(claims, len(claims))) for _ in range(2)]
            ends = [pool.submit(complete, sessions, rng.sample(part, len(part))) for part in parts]
        assert [end.result() for end in ends] == [ids(part) for part in parts]
        assert all(one.exception() is None for one in beats)


class Desk:
    """A recorder with all that it works with."""

    def __init__(self, sessions: Sessions, folder: Path) -> None:
        ledger = Ledger(sessions, patience=5)
        self.store = LocalStore(folder)
        self.leases = Leases(ledger, lease=60, stall=60)
        self.twins = Twins()
        self.rung: list[bool] = []
        telling = Telling(lambda: self.rung.append(True))
        self.recorder = Recorder(
            ledger, self.store, DeFakerOne.from_pretrained(CHECKPOINT), self.leases, Settings(),
            twins=self.twins, telling=telling,
        )  # fmt: skip

    def result(self, claim: Claim, **values: Any) -> Result:
        """A result whose files are stored."""
        made = finding(claim, **values)
        known = {"screening_id", "platform_id", "attempt", "mask_key", "mask_sha256", "heatmap_key", "heatmap_sha256"}
        columns = {name: value for name, value in vars(made).items() if name in Finding.__table__.columns}
        result = Result(claim, {n: v for n, v in columns.items() if n not in known}, FILES, IMAGE, SAID)
        assert self.recorder.upload(result)
        return result

    def files(self, claim: Claim) -> int:
        """How many files lie in the store for this claim's screening."""
        return len(list(self.store.keys(screening_prefix(claim.platform_id, claim.screening_id))))


@pytest.fixture
def desk(sessions: Sessions, tmp_path: Path) -> Desk:
    return Desk(sessions, tmp_path)


def test_a_row_that_the_database_refuses_is_given_back_and_its_seven_neighbours_are_recorded(
    sessions: Sessions, platform: Platform, desk: Desk
) -> None:
    with sessions.begin() as session:
        endpoints.create(session, BOX, platform.id, "https://every.test")
    claims = claimed(sessions, *[platform] * 8)
    refused, kept = claims[5], claims[:5] + claims[6:]
    desk.recorder.commit([desk.result(c, score=1.5 if c is refused else 0.5) for c in claims])
    assert states(sessions, kept) == [State.SUCCEEDED] * 7
    assert Counter(found(sessions, Event.screening_id)) == dict.fromkeys(ids(kept), 1)
    assert len(found(sessions, Delivery.id)) == 7
    with sessions() as session:
        row = session.get_one(Screening, refused.screening_id)
        attempt = session.get_one(Attempt, (refused.screening_id, refused.attempt))
        wait = session.scalar(text("SELECT due_at - now() FROM screenings WHERE id = :id"), {"id": row.id})
    assert (row.state, row.strikes, attempt.outcome, attempt.detail) == (State.QUEUED, 0, "released", "database")
    assert timedelta(0) < wait <= timedelta(seconds=Settings().retry_seconds)
    assert not any(desk.leases.lost(claim) for claim in claims)
    assert desk.rung


def test_who_lost_a_row_takes_its_files_away_and_leaves_those_of_its_neighbours(
    sessions: Sessions, platform: Platform, desk: Desk
) -> None:
    claims = claimed(sessions, *[platform] * 8)
    results = [desk.result(claim) for claim in claims]
    lose(sessions, claims[0])
    desk.recorder.commit(results)
    assert [desk.files(claim) for claim in claims] == [0] + [2] * 7
    assert states(sessions, claims) == [State.RUNNING] + [State.SUCCEEDED] * 7


def test_a_commit_whose_answer_was_lost_is_not_taken_back(sessions: Sessions, platform: Platform, desk: Desk) -> None:
    claims = claimed(sessions, *[platform] * 2)
    results = [desk.result(claim) for claim in claims]
    desk.recorder.commit(results)
    desk.recorder.commit(results)
    assert [desk.files(claim) for claim in claims] == [2, 2]
    assert Counter(found(sessions, Event.screening_id)) == dict.fromkeys(ids(claims), 1)


def test_twins_get_a_copy_each_with_files_of_their_own(sessions: Sessions, platform: Platform, desk: Desk) -> None:
    claims = claimed(sessions, *[platform] * 4)
    first, *twins = [replace(claim, sha256=bytes(32)) for claim in claims[:3]]
    assert [desk.twins.wait(claim) for claim in (first, *twins)] == [False, True, True]
    desk.recorder.commit([desk.result(first), desk.result(claims[3])])
    with sessions() as session:
        origins = [session.get_one(Finding, claim.screening_id).reused_from for claim in claims]
    assert origins == [None, first.screening_id, first.screening_id, None]
    assert [desk.files(claim) for claim in claims] == [2] * 4
    assert desk.twins.part(first) == []
