"""Bytes go when they must, and only then: retention, legal hold, erasure, orphans."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text, update
from sqlalchemy.orm import Session, sessionmaker

from screening import jobs, retention
from screening.blobs import BlobStore, derived_key, image_key, screening_prefix
from screening.blobs.local import LocalStore
from screening.database import sync_engine
from screening.errors import BlobStoreError
from screening.ids import uuid7
from screening.tables import Event, Finding, Image, Platform, Screening
from tests import clock
from tests.findings import finding, intake
from worker.housekeeping import orphans
from worker.housekeeping.purge import Purged, purge

Sessions = sessionmaker[Session]


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return LocalStore(tmp_path / "blobs")


def screened(sessions: Sessions, store: BlobStore, platform: Platform) -> UUID:
    """A finished screening with its image, mask and heat map in the store."""
    made = intake(platform.id, details={"who": "somebody"}, client_ref="post-1")
    store.put(image_key(platform.id, made.screening_id), b"pixels")
    with sessions.begin() as session:
        jobs.enqueue(session, made)
    with sessions.begin() as session:
        [claim] = jobs.claim(session, limit=1, worker="w", lease=timedelta(seconds=60))
        keys = {
            f"{n}_key": derived_key(platform.id, made.screening_id, claim.attempt, f"{n}.png")
            for n in ("mask", "heatmap")
        }
        for key in keys.values():
            store.put(key, b"png")
        assert jobs.complete(session, claim, finding(claim, **keys))
    return made.screening_id


def left(store: BlobStore, platform: Platform, screening_id: UUID) -> list[str]:
    prefix = screening_prefix(platform.id, screening_id)
    return sorted(key.removeprefix(prefix) for key in store.keys(prefix))


WHOLE = ["1/heatmap.png", "1/mask.png", "image"]


def keep_for(sessions: Sessions, platform: Platform, days: int | None) -> None:
    with sessions.begin() as session:
        session.execute(update(Platform).where(Platform.id == platform.id).values(retention_days=days))


@pytest.fixture
def later(sessions: Sessions, database_url: str) -> Iterator[Sessions]:
    """Sessions that live eight days from now."""
    engine = sync_engine(clock.later(database_url, timedelta(days=8)))
    yield sessionmaker(engine, expire_on_commit=False)
    engine.dispose()


def test_what_is_past_its_retention_goes_and_a_stub_stays(
    sessions: Sessions, later: Sessions, store: BlobStore, platform: Platform
) -> None:
    screening_id = screened(sessions, store, platform)
    keep_for(sessions, platform, 7)
    assert purge(sessions, store) == Purged()
    assert left(store, platform, screening_id) == WHOLE
    with later() as session:
        assert retention.due(session)
    assert purge(later, store).expired == 1
    assert left(store, platform, screening_id) == []
    with sessions() as session:
        row = session.get_one(Screening, screening_id)
        assert (row.state, row.client_ref) == ("succeeded", None)
        assert row.erased_at is not None
        assert session.get_one(Finding, screening_id).label == "fake"
        assert session.query(Image).filter_by(screening_id=screening_id).count() == 0
        assert session.query(Event).filter_by(screening_id=screening_id).one().data["metadata"] == {}


def test_a_platform_without_retention_keeps_everything(
    sessions: Sessions, later: Sessions, store: BlobStore, platform: Platform
) -> None:
    screening_id = screened(sessions, store, platform)
    assert purge(later, store) == Purged()
    assert left(store, platform, screening_id) == WHOLE


def test_a_legal_hold_outlasts_retention_until_it_is_lifted(
    sessions: Sessions, later: Sessions, store: BlobStore, platform: Platform
) -> None:
    screening_id = screened(sessions, store, platform)
    keep_for(sessions, platform, 7)
    with sessions.begin() as session:
        jobs.hold(session, screening_id, held=True)
    assert purge(later, store) == Purged()
    assert left(store, platform, screening_id) == WHOLE
    with sessions.begin() as session:
        jobs.hold(session, screening_id, held=False)
    assert purge(later, store).expired == 1
    assert left(store, platform, screening_id) == []


def test_more_than_one_transaction_full_is_erased_in_one_run(
    sessions: Sessions, later: Sessions, store: BlobStore, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.housekeeping.purge.AT_ONCE", 2)
    ids = [screened(sessions, store, platform) for _ in range(5)]
    keep_for(sessions, platform, 7)
    assert purge(later, store).expired == 5
    assert [left(store, platform, i) for i in ids] == [[]] * 5


def test_late_files_of_a_fenced_worker_are_removed_and_only_then_is_it_noted(
    sessions: Sessions, later: Sessions, store: BlobStore, platform: Platform
) -> None:
    screening_id = screened(sessions, store, platform)
    with sessions.begin() as session:
        jobs.erase(session, session.get_one(Screening, screening_id))
    assert purge(sessions, store) == Purged(purged=0)
    assert left(store, platform, screening_id) == []
    store.put(derived_key(platform.id, screening_id, 1, "mask.png"), b"late")
    assert purge(later, store) == Purged(purged=1)
    assert left(store, platform, screening_id) == []
    with later() as session:
        assert not retention.due(session)


def test_a_store_that_fails_is_tried_again(
    sessions: Sessions, later: Sessions, store: BlobStore, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    screening_id = screened(sessions, store, platform)
    with sessions.begin() as session:
        jobs.erase(session, session.get_one(Screening, screening_id))

    def away(_: object, keys: object) -> None:
        raise BlobStoreError("away")

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "delete", away)
        assert purge(later, store) == Purged(failed=1)
    assert left(store, platform, screening_id) == WHOLE
    assert purge(later, store) == Purged(purged=1)
    assert left(store, platform, screening_id) == []


def test_blobs_that_belong_to_nobody_go_after_a_day_and_nothing_else_does(
    sessions: Sessions, later: Sessions, store: BlobStore, platform: Platform
) -> None:
    kept = screened(sessions, store, platform)
    never_committed = uuid7()
    store.put(image_key(platform.id, never_committed), b"pixels")
    store.put(derived_key(platform.id, kept, 7, "mask.png"), b"of a stale attempt")
    store.put("probe/of-a-health-check", b"")
    with sessions.begin() as session:
        waiting = jobs.enqueue(session, intake(platform.id)).id
    store.put(image_key(platform.id, waiting), b"pixels")
    foreign = image_key(uuid7(), kept)  # the right screening under another platform's folder
    store.put(foreign, b"pixels")
    assert orphans.sweep(sessions, store) == 0  # all of it is younger than a day
    assert orphans.sweep(later, store) == 3
    assert left(store, platform, kept) == WHOLE
    assert left(store, platform, never_committed) == []
    assert left(store, platform, waiting) == ["image"]
    assert not store.exists(foreign)
    assert store.exists("probe/of-a-health-check")


def test_the_clock_of_the_later_sessions_is_a_week_on(later: Sessions) -> None:
    with later() as session:
        assert session.scalar(text("SELECT assay_now() - now() = interval '8 days'"))
