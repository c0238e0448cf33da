"""What the sweeper leaves in Redis while nobody listens, and how soon it notices that somebody does."""

from collections.abc import Iterator

import pytest
import redis
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from screening import events, jobs
from screening.broker import Doorbell, Queue
from screening.endpoints import create as create_endpoint
from screening.settings import Settings
from screening.tables import Platform
from screening.webhook_secrets import SecretBox
from tests.findings import intake
from worker.sweeper import MOST_BELLS, Sweeper

Sessions = sessionmaker[Session]


@pytest.fixture
def queues(settings: Settings) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.redis_url) as client:
        client.flushall()
        yield client
        client.flushall()


@pytest.fixture
def sweeper(engine: Engine, settings: Settings) -> Sweeper:
    impatient = settings.model_copy(update={"announce_again_seconds": 0.0})
    return Sweeper(engine, Doorbell(settings.redis_url), impatient)


def test_a_backlog_of_hours_leaves_no_more_bells_than_one_sweep(
    sessions: Sessions, platform: Platform, sweeper: Sweeper, queues: redis.Redis
) -> None:
    with sessions.begin() as session:
        for _ in range(5 * MOST_BELLS):
            jobs.enqueue(session, intake(platform.id))
        create_endpoint(session, SecretBox(["key"]), platform.id, "https://example.org/hook")
        events.emit(session, platform_id=platform.id, type="t", data={})
    assert sweeper.sweep().rung == MOST_BELLS + 1
    for _ in range(3 * MOST_BELLS):
        sweeper.sweep()
        assert queues.llen(Queue.SCREENINGS.value) == MOST_BELLS
        assert int(queues.llen(Queue.DELIVERIES.value)) <= MOST_BELLS


def test_bells_that_were_heard_are_rung_again_while_rows_are_due(
    sessions: Sessions, platform: Platform, sweeper: Sweeper, queues: redis.Redis
) -> None:
    with sessions.begin() as session:
        for _ in range(3):
            jobs.enqueue(session, intake(platform.id))
    assert sweeper.sweep().rung == 3
    queues.flushall()
    assert sweeper.sweep().rung == 3
