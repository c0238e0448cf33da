"""Every event reaches every endpoint that wants it, signed, once accepted never again, logged as it was."""

import asyncio
import json
import random
from collections import Counter
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker
from standardwebhooks import Webhook
from structlog.testing import capture_logs

from screening import deliveries, endpoints, events, jobs, platforms, webhook_secrets
from screening.deliveries import Limits
from screening.delivery_schedule import failed
from screening.errors import ConfigurationError
from screening.ids import Prefix, encode
from screening.settings import Settings
from screening.tables import Delivery, DeliveryAttempt, Endpoint, Event, Platform
from screening.webhook_secrets import SecretBox
from tests.certificates import self_signed
from tests.findings import finding, intake
from tests.receiver import Receiver, Reply, receiving
from worker.deliveries import sender
from worker.deliveries.sender import Drained

Sessions = sessionmaker[Session]
KEYS = "test-key"
BOX = SecretBox([KEYS])


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(
        database_url=database_url, secret_keys=SecretStr(KEYS), webhook_allowed_ranges="127.0.0.0/8",
        webhook_seconds=1.0, drain_seconds=20,
    )  # fmt: skip


def listen(sessions: Sessions, platform: Platform, url: str, **options: object) -> tuple[UUID, str]:
    with sessions.begin() as session:
        endpoint, secret = endpoints.create(session, BOX, platform.id, url, **options)  # type: ignore[arg-type]
        return endpoint.id, secret


def happen(sessions: Sessions, platform: Platform, count: int = 1, type: str = "screening.completed") -> list[UUID]:
    with sessions.begin() as session:
        return [
            events.emit(session, platform_id=platform.id, type=type, data={"number": number}).id
            for number in range(count)
        ]


def send(settings: Settings) -> Drained:
    return asyncio.run(sender.drain(settings))


def rows(sessions: Sessions, endpoint_id: UUID) -> list[Delivery]:
    with sessions() as session:
        return list(
            session.scalars(
                select(Delivery)
                .where(Delivery.endpoint_id == endpoint_id)
                .order_by(Delivery.created_at, Delivery.id)
                .execution_options(populate_existing=True)
            )
        )


def log(sessions: Sessions, endpoint_id: UUID) -> list[DeliveryAttempt]:
    with sessions() as session:
        return list(
            session.scalars(
                select(DeliveryAttempt)
                .join(Delivery, Delivery.id == DeliveryAttempt.delivery_id)
                .where(Delivery.endpoint_id == endpoint_id)
                .order_by(DeliveryAttempt.delivery_id, DeliveryAttempt.attempt)
            )
        )


def endpoint(sessions: Sessions, endpoint_id: UUID) -> Endpoint:
    with sessions() as session:
        return session.get_one(Endpoint, endpoint_id)


def make_due(sessions: Sessions) -> None:
    """Let the waits pass, as an hour would."""
    with sessions.begin() as session:
        session.execute(text("UPDATE deliveries SET due_at = now() WHERE state = 'pending'"))
        session.execute(text("UPDATE endpoints SET throttled_until = NULL"))


def test_a_verdict_arrives_signed_as_the_reference_library_expects(
    sessions: Sessions, platform: Platform, receiver: Receiver, settings: Settings
) -> None:
    endpoint_id, secret = listen(sessions, platform, receiver.url("/hook"))
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with sessions.begin() as session:
        screening = jobs.enqueue(session, intake(platform.id, traceparent=trace, client_ref="post-1"))
    with sessions.begin() as session:
        [claim] = jobs.claim(session, limit=1, worker="w", lease=timedelta(seconds=60))
        assert jobs.complete(session, claim, finding(claim))
    assert send(settings) == Drained(attempts=1, delivered=1)
    [request] = receiver.seen("/hook")
    body = Webhook(secret).verify(request.body, request.headers)
    assert body["type"] == "screening.completed"
    assert body["data"]["id"] == encode(Prefix.SCREENING, screening.id)
    assert body["data"]["verdict"]["label"] == "fake"
    assert request.headers["traceparent"] == trace
    assert request.headers["content-type"] == "application/json"
    [attempt] = log(sessions, endpoint_id)
    assert (attempt.attempt, attempt.status, attempt.error) == (1, 204, None)
    [row] = rows(sessions, endpoint_id)
    assert row.state == "delivered"
    assert request.id == encode(Prefix.EVENT, row.event_id)
    assert send(settings) == Drained(0, 0)


@pytest.mark.parametrize(
    ("reply", "state", "status", "error"),
    [
        (Reply(200, body=b"thanks"), "delivered", 200, None),
        (Reply(299), "delivered", 299, None),
        (Reply(301, {"Location": "/elsewhere"}), "pending", 301, None),
        (Reply(307, {"Location": "http://169.254.169.254/"}), "pending", 307, None),
        (Reply(400), "pending", 400, None),
        (Reply(500, body=b"oh\0no"), "pending", 500, None),
        (Reply(delay=3), "pending", None, "timeout"),
        (Reply(raw=b"SSH-2.0-OpenSSH\r\n"), "pending", None, "protocol"),
        (Reply(raw=b""), "pending", None, "protocol"),
        (Reply(200, endless=True), "delivered", 200, "timeout"),
        (Reply(500, endless=True), "pending", 500, "timeout"),
        (Reply(500, body=b"x" * 100_000), "pending", 500, "too_large"),
    ],
)
def test_what_a_receiver_answers_decides_and_is_kept(
    sessions: Sessions, platform: Platform, receiver: Receiver, settings: Settings,
    reply: Reply, state: str, status: int | None, error: str | None,
) -> None:  # fmt: skip
    endpoint_id, _ = listen(sessions, platform, receiver.at("/hook", reply))
    happen(sessions, platform)
    send(settings)
    [row] = rows(sessions, endpoint_id)
    [attempt] = log(sessions, endpoint_id)
    assert (row.state, attempt.status, attempt.error) == (state, status, error)
    assert len(receiver.seen("/hook")) == 1
    assert receiver.seen("/elsewhere") == []
    if attempt.response is not None:
        assert len(attempt.response.encode()) <= 20_000
        assert "\0" not in attempt.response
    if state == "pending":
        wait = row.due_at - attempt.started_at
        assert timedelta(seconds=4) <= wait <= timedelta(seconds=10)
        assert endpoint(sessions, endpoint_id).failing_since is not None


def test_a_private_address_behind_an_endpoint_is_refused_and_logged_as_that(
    sessions: Sessions, platform: Platform, receiver: Receiver, settings: Settings
) -> None:
    url = receiver.at("/hook", Reply()).replace("127.0.0.1", "localhost")
    endpoint_id, _ = listen(sessions, platform, url)
    happen(sessions, platform)
    send(settings.model_copy(update={"webhook_allowed_ranges": "10.0.0.0/8"}))
    [attempt] = log(sessions, endpoint_id)
    assert (attempt.error, receiver.requests) == ("refused_address", [])


def test_gone_disables_the_endpoint_and_tells_the_others(
    sessions: Sessions, platform: Platform, receiver: Receiver, settings: Settings
) -> None:
    gone, _ = listen(sessions, platform, receiver.at("/gone", Reply(410)))
    listen(sessions, platform, receiver.at("/alive", Reply()))
    happen(sessions, platform)
    send(settings)
    send(settings)
    disabled = endpoint(sessions, gone)
    assert (disabled.enabled, disabled.disabled_reason) == (False, "gone")
    told = [json.loads(r.body) for r in receiver.seen("/alive")]
    notice = next(t for t in told if t["type"] == deliveries.DISABLED)
    assert notice["data"]["id"] == encode(Prefix.ENDPOINT, gone)
    happen(sessions, platform)
    make_due(sessions)
    send(settings)
    assert len(receiver.seen("/gone")) == 1
    with sessions.begin() as session:
        assert not deliveries.any_due(session, Limits(8, 8))
        endpoints.enable(session, session.get_one(Endpoint, gone))
        assert deliveries.any_due(session, Limits(8, 8))
    send(settings)
    assert len(receiver.seen("/gone")) == 2


@pytest.mark.parametrize(("status", "headers", "seconds"), [(429, {"Retry-After": "1800"}, 1800), (502, {}, 30),
                                                            (503, {"Retry-After": "600"}, 600)])  # fmt: skip
def test_a_throttling_answer_pauses_the_whole_endpoint(
    sessions: Sessions, platform: Platform, receiver: Receiver, settings: Settings,
    status: int, headers: dict[str, str], seconds: int,
) -> None:  # fmt: skip
    endpoint_id, _ = listen(sessions, platform, receiver.at("/hook", Reply(status, headers)))
    happen(sessions, platform)
    send(settings)
    happen(sessions, platform)
    assert send(settings) == Drained(0, 0)
    assert len(receiver.seen("/hook")) == 1
    until = endpoint(sessions, endpoint_id).throttled_until
    assert until is not None
    assert abs(until - receiver.requests[0].at - timedelta(seconds=seconds)) < timedelta(seconds=10)
    [first, _] = rows(sessions, endpoint_id)
    assert first.due_at >= until - timedelta(seconds=1)


def test_only_the_types_asked_for_arrive(
    sessions: Sessions, platform: Platform, receiver: Receiver, settings: Settings
) -> None:
    listen(sessions, platform, receiver.at("/failed", Reply()), types=["screening.failed"])
    listen(sessions, platform, receiver.at("/all", Reply()))
    happen(sessions, platform, 2)
    happen(sessions, platform, 1, "screening.failed")
    send(settings)
    assert (len(receiver.seen("/failed")), len(receiver.seen("/all"))) == (1, 3)


def test_an_ordered_endpoint_hears_one_at_a_time_and_waits_behind_a_failure(
    sessions: Sessions, platform: Platform, receiver: Receiver, settings: Settings
) -> None:
    answers = iter([Reply(), Reply(500), *[Reply()] * 20])
    listen(sessions, platform, receiver.at("/hook", lambda _: next(answers)), ordered=True)
    ids = [encode(Prefix.EVENT, happen(sessions, platform)[0]) for _ in range(6)]
    send(settings)
    assert [r.id for r in receiver.seen("/hook")] == ids[:2]
    make_due(sessions)
    send(settings)
    assert [r.id for r in receiver.seen("/hook")] == [ids[0], ids[1], *ids[1:]]


def test_a_slow_endpoint_keeps_to_its_places_and_delays_nobody_else(
    sessions: Sessions, platform: Platform, receiver: Receiver, settings: Settings
) -> None:
    """Many slow endpoints of one platform, more than places, answer only once all of the other platform has arrived."""

    def all_arrived() -> bool:
        return len(receiver.seen("/quick")) == 30

    slow = [
        listen(sessions, platform, receiver.at(f"/slow{number}", Reply(hold=all_arrived)))[0] for number in range(40)
    ]
    with sessions.begin() as session:
        other = platforms.create(session, "other")
    listen(sessions, other, receiver.at("/quick", Reply()))
    happen(sessions, platform, 2)
    happen(sessions, other, 30)
    tight = {"webhook_concurrency": 16, "webhook_per_endpoint": 4, "webhook_per_platform": 12, "webhook_seconds": 9.0}
    assert send(settings.model_copy(update=tight)) == Drained(attempts=110, delivered=110)
    last = max(r.at for r in receiver.seen("/quick"))
    early = Counter(r.path for r in receiver.requests if r.at <= last and r.path != "/quick")
    assert sum(early.values()) <= 12
    assert max(early.values()) <= 4
    assert {attempt.error for endpoint_id in slow for attempt in log(sessions, endpoint_id)} == {None}


def test_two_senders_share_the_work_and_send_nothing_twice(
    sessions: Sessions, platform: Platform, receiver: Receiver, settings: Settings
) -> None:
    listen(sessions, platform, receiver.at("/hook", Reply(delay=0.01)))
    ids = happen(sessions, platform, 120)

    async def both() -> list[Drained]:
        return list(await asyncio.gather(*(sender.drain(settings) for _ in range(3))))

    drained = asyncio.run(both())
    assert sum(d.delivered for d in drained) == 120
    assert receiver.counts("/hook") == {encode(Prefix.EVENT, i): 1 for i in ids}


def test_claims_hold_the_limits_exactly(sessions: Sessions, platform: Platform, receiver: Receiver) -> None:
    plain, _ = listen(sessions, platform, receiver.url("/a"))
    ordered, _ = listen(sessions, platform, receiver.url("/b"), ordered=True)
    happen(sessions, platform, 10)

    def claim(per_endpoint: int, per_platform: int) -> list[UUID]:
        with sessions.begin() as session:
            limits = Limits(per_endpoint, per_platform)
            claims = deliveries.claim(session, limit=100, limits=limits, lease=timedelta(seconds=60))
        return [c.endpoint_id for c in claims]

    first = claim(3, 100)
    assert (first.count(plain), first.count(ordered)) == (3, 1)
    assert claim(3, 100) == []
    assert claim(5, 100).count(plain) == 2
    assert claim(100, 8).count(plain) == 2


def test_a_sender_that_died_costs_no_place_in_the_schedule_and_is_fenced(
    sessions: Sessions, platform: Platform, receiver: Receiver, settings: Settings
) -> None:
    endpoint_id, _ = listen(sessions, platform, receiver.url("/hook"))
    happen(sessions, platform)
    with sessions.begin() as session:
        [stale] = deliveries.claim(session, limit=1, limits=Limits(8, 8), lease=timedelta(seconds=-1))
    assert send(settings).delivered == 1
    [row] = rows(sessions, endpoint_id)
    assert (row.state, row.attempt, row.failures) == ("delivered", 2, 0)
    assert [(a.attempt, a.error, a.status) for a in log(sessions, endpoint_id)] == [
        (1, "interrupted", None),
        (2, None, 204),
    ]
    with sessions.begin() as session:
        late = deliveries.Attempted(stale, failed("timeout", 0, random.Random(1)), 5)
        assert deliveries.record(session, [late]) == set()
    assert rows(sessions, endpoint_id)[0].state == "delivered"


def test_during_a_rotation_both_secrets_verify_and_afterwards_only_the_new_one(
    sessions: Sessions, platform: Platform, receiver: Receiver, settings: Settings
) -> None:
    endpoint_id, old = listen(sessions, platform, receiver.url("/hook"))
    with sessions.begin() as session:
        new = endpoints.rotate_secret(session, BOX, session.get_one(Endpoint, endpoint_id), overlap=timedelta(hours=24))
    happen(sessions, platform)
    send(settings)
    [during] = receiver.seen("/hook")
    for secret in (old, new):
        assert Webhook(secret).verify(during.body, during.headers)
    with sessions.begin() as session:
        session.execute(text("UPDATE endpoints SET previous_secret_until = now() - interval '1 second'"))
    happen(sessions, platform)
    send(settings)
    after = receiver.seen("/hook")[-1]
    assert Webhook(new).verify(after.body, after.headers)
    assert len(after.headers["webhook-signature"].split(" ")) == 1


def test_secrets_survive_a_rotation_of_the_operators_keys_and_are_unreadable_without() -> None:
    secret = webhook_secrets.generate()
    sealed = SecretBox(["old"]).seal(secret)
    assert secret.encode() not in sealed
    both = SecretBox(["new", "old"])
    assert both.open(sealed) == secret
    assert SecretBox(["new"]).open(both.reseal(sealed)) == secret
    with pytest.raises(ConfigurationError, match="ASSAY_SECRET_KEYS"):
        SecretBox(["new"]).open(sealed)


def test_an_unreadable_secret_fails_that_delivery_alone(
    sessions: Sessions, platform: Platform, receiver: Receiver, settings: Settings
) -> None:
    broken, _ = listen(sessions, platform, receiver.url("/broken"))
    listen(sessions, platform, receiver.url("/fine"))
    with sessions.begin() as session:
        session.get_one(Endpoint, broken).secret = SecretBox(["lost"]).seal(webhook_secrets.generate())
    happen(sessions, platform)
    assert send(settings) == Drained(attempts=2, delivered=1)
    assert [a.error for a in log(sessions, broken)] == ["unsigned"]


def test_a_defect_that_one_delivery_brings_out_fails_that_delivery_alone(
    sessions: Sessions, platform: Platform, receiver: Receiver, settings: Settings
) -> None:
    """Raised in the sender, it would end everybody's attempts, each time the row came back."""
    broken, _ = listen(sessions, platform, receiver.url("/broken"))
    listen(sessions, platform, receiver.url("/fine"))
    with sessions.begin() as session:
        session.get_one(Endpoint, broken).secret = BOX.seal("whsec_!")  # decrypts to what no library can sign with
    happen(sessions, platform, 3)
    with capture_logs() as logged:
        assert send(settings) == Drained(attempts=6, delivered=3)
    assert [line["event"] for line in logged] == ["delivery.defect"] * 3
    assert {a.error for a in log(sessions, broken)} == {"internal"}
    assert {row.state for row in rows(sessions, broken)} == {"pending"}


@pytest.mark.parametrize("retry", ["9" * 5_000, "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "never", "-1", "1e9"])
def test_what_a_receiver_says_of_a_pause_harms_nobody(
    sessions: Sessions, platform: Platform, receiver: Receiver, settings: Settings, retry: str
) -> None:
    strange, _ = listen(sessions, platform, receiver.at("/strange", Reply(429, {"Retry-After": retry})))
    listen(sessions, platform, receiver.url("/fine"))
    happen(sessions, platform)
    assert send(settings) == Drained(attempts=2, delivered=1)
    assert [(a.status, a.error) for a in log(sessions, strange)] == [(429, None)]
    until = endpoint(sessions, strange).throttled_until
    assert until is not None
    assert until - receiver.seen("/strange")[0].at < timedelta(seconds=40)


def test_a_receiver_whose_certificate_nobody_vouches_for_hears_nothing(
    sessions: Sessions, platform: Platform, settings: Settings, tmp_path: Path
) -> None:
    context, _ = self_signed("localhost", tmp_path)
    with receiving(context) as receiver:
        endpoint_id, _ = listen(sessions, platform, receiver.url("/hook").replace("127.0.0.1", "localhost"))
        happen(sessions, platform)
        allowed = {"webhook_allowed_ranges": "127.0.0.0/8,::1/128"}
        assert send(settings.model_copy(update=allowed)) == Drained(attempts=1, delivered=0)
        assert receiver.requests == []
    assert [a.error for a in log(sessions, endpoint_id)] == ["tls"]


def test_replaying_one_sends_it_again_under_the_same_id(
    sessions: Sessions, platform: Platform, receiver: Receiver, settings: Settings
) -> None:
    endpoint_id, secret = listen(sessions, platform, receiver.url("/hook"))
    [event_id] = happen(sessions, platform)
    send(settings)
    with sessions.begin() as session:
        again = deliveries.replay(session, session.get_one(Delivery, rows(sessions, endpoint_id)[0].id))
        assert again.replay == 1
    send(settings)
    assert receiver.counts("/hook") == {encode(Prefix.EVENT, event_id): 2}
    first, second = receiver.seen("/hook")
    assert first.body == second.body
    assert Webhook(secret).verify(second.body, second.headers)


def test_replaying_a_range_reaches_events_of_a_disabled_time_and_can_leave_out_what_arrived(
    sessions: Sessions, platform: Platform, receiver: Receiver, settings: Settings
) -> None:
    endpoint_id, _ = listen(sessions, platform, receiver.url("/hook"), types=["screening.completed"])
    arrived = happen(sessions, platform, 2)
    send(settings)
    with sessions.begin() as session:
        endpoints.disable(session, session.get_one(Endpoint, endpoint_id))
    missed = happen(sessions, platform, 3)
    happen(sessions, platform, 1, "screening.failed")
    with sessions.begin() as session:
        endpoints.enable(session, session.get_one(Endpoint, endpoint_id))
        since = session.get_one(Event, arrived[0]).created_at
        span = (since, since + timedelta(hours=1))
        assert deliveries.replay_range(session, endpoint_id, *span, undelivered=True, limit=100) == 3
        assert deliveries.replay_range(session, endpoint_id, *span, undelivered=True, limit=100) == 0
    send(settings)
    assert receiver.counts("/hook") == {encode(Prefix.EVENT, i): 1 for i in arrived + missed}
    with sessions.begin() as session:
        assert deliveries.replay_range(session, endpoint_id, *span, undelivered=False, limit=100) == 5


def test_the_test_event_goes_to_its_endpoint_alone_whatever_types_it_wants(
    sessions: Sessions, platform: Platform, receiver: Receiver, settings: Settings
) -> None:
    endpoint_id, _ = listen(sessions, platform, receiver.url("/one"), types=["review.decided"])
    listen(sessions, platform, receiver.url("/two"))
    with sessions.begin() as session:
        deliveries.send_test(session, session.get_one(Endpoint, endpoint_id))
    send(settings)
    [request] = receiver.requests
    assert (request.path, json.loads(request.body)["type"]) == ("/one", "webhook.test")
