"""The age of what waits counts what lacks a sender, and nothing that an endpoint itself holds up."""

import random
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from prometheus_client.core import Metric
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from screening import deliveries, endpoints, events, jobs
from screening.backlog import Backlog
from screening.database import sync_engine
from screening.deliveries import Attempted, Limits
from screening.delivery_schedule import failed
from screening.settings import Settings
from screening.tables import Delivery, Platform
from screening.webhook_secrets import SecretBox
from tests import clock
from tests.findings import intake

Sessions = sessionmaker[Session]
MINUTE = timedelta(minutes=1)
LIMITS = Limits(2, 3)


@pytest.fixture
def age(database_url: str) -> Callable[[], float]:
    """The age of the oldest delivery that a sender could take, a minute from now."""

    def read() -> float:
        engine = sync_engine(clock.later(database_url, MINUTE))
        with Session(engine) as session:
            seconds = deliveries.oldest_due_seconds(session, LIMITS)
            assert deliveries.any_due(session, LIMITS) == (seconds > 0)
        engine.dispose()
        return seconds

    return read


def listen(sessions: Sessions, settings: Settings, platform: Platform, *, ordered: bool = False) -> UUID:
    with sessions.begin() as session:
        url = "https://example.com/hook"
        return endpoints.create(session, SecretBox(settings.keys), platform.id, url, ordered=ordered)[0].id


def happen(sessions: Sessions, platform: Platform, count: int = 1) -> None:
    with sessions.begin() as session:
        for number in range(count):
            events.emit(session, platform_id=platform.id, type="screening.completed", data={"n": number})


def take(sessions: Sessions, lease: timedelta = timedelta(hours=1)) -> list[deliveries.Claim]:
    with sessions.begin() as session:
        return deliveries.claim(session, limit=10, limits=LIMITS, lease=lease)


def test_a_delivery_that_nobody_sends_ages(
    sessions: Sessions, settings: Settings, platform: Platform, age: Callable[[], float]
) -> None:
    listen(sessions, settings, platform)
    assert age() == 0
    happen(sessions, platform)
    assert age() == pytest.approx(60, abs=20)


def test_what_waits_behind_an_endpoints_full_places_is_not_late(
    sessions: Sessions, settings: Settings, platform: Platform, age: Callable[[], float]
) -> None:
    listen(sessions, settings, platform)
    happen(sessions, platform, 5)
    assert len(take(sessions)) == LIMITS.per_endpoint
    assert age() == 0


def test_what_waits_in_order_behind_a_failed_delivery_is_not_late(
    sessions: Sessions, settings: Settings, platform: Platform, age: Callable[[], float], rng: random.Random
) -> None:
    listen(sessions, settings, platform, ordered=True)
    happen(sessions, platform, 3)
    [claim] = take(sessions)
    with sessions.begin() as session:
        assert deliveries.record(session, [Attempted(claim, failed("timeout", 3, rng), 1)])
    assert age() == 0  # the first has failed, is due in half an hour, and holds back the others


def test_a_pause_does_not_count_and_ages_from_its_end(
    sessions: Sessions, settings: Settings, platform: Platform, age: Callable[[], float]
) -> None:
    listen(sessions, settings, platform)
    happen(sessions, platform)
    pause = "UPDATE endpoints SET throttled_until = now() + make_interval(secs => :seconds)"
    for seconds, expected in ((120, 0), (40, 20)):
        with sessions.begin() as session:
            session.execute(text(pause), {"seconds": seconds})
        assert age() == pytest.approx(expected, abs=10)


def test_a_dead_letter_counts_until_it_is_replayed(sessions: Sessions, settings: Settings, platform: Platform) -> None:
    listen(sessions, settings, platform)
    happen(sessions, platform, 2)
    with sessions.begin() as session:
        session.execute(text("UPDATE deliveries SET state = 'dead'"))
    with sessions.begin() as session:
        assert deliveries.dead_letters(session) == 2
        deliveries.replay(session, session.scalars(select(Delivery).limit(1)).one())
        assert deliveries.dead_letters(session) == 1


def values(settings: Settings) -> dict[str, list[float]]:
    found: list[Metric] = list(Backlog(settings).collect())
    return {metric.name: [sample.value for sample in metric.samples] for metric in found}


def test_the_figures_have_their_names_and_say_nothing_while_the_database_is_away(
    sessions: Sessions, settings: Settings, platform: Platform
) -> None:
    listen(sessions, settings, platform)
    happen(sessions, platform)
    with sessions.begin() as session:
        jobs.enqueue(session, intake(platform.id))
        session.execute(text("UPDATE deliveries SET due_at = now() - interval '1 hour'"))
        session.execute(text("UPDATE screenings SET due_at = now() - interval '2 hours'"))
    seen = values(settings)
    assert seen["assay_delivery_oldest_due_seconds"] == pytest.approx([3600], abs=30)
    assert seen["assay_oldest_due_seconds"] == pytest.approx([7200], abs=30)
    assert seen["assay_dead_letters"] == [0]
    away = settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/none"})
    assert values(away) == {name: [] for name in seen}
