"""When is a delivery tried again? As the contract's table says, with a fifth of jitter."""

import json
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from screening import webhook_body
from screening.delivery_schedule import GIVE_UP, JITTER, WAITS, judge, readable, retry_after, wait_after
from screening.outbound import Answer, OutboundError, Reason

CONTRACT = [5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600, 24 * 3600, 24 * 3600]


def answer(status: int, **headers: str) -> Answer:
    return Answer(status, httpx.Headers({k.replace("_", "-"): v for k, v in headers.items()}), b"")


def test_the_waits_are_the_contracts_within_a_fifth(rng: random.Random) -> None:
    for failures, seconds in enumerate(CONTRACT, start=1):
        sampled = [wait_after(failures, rng).total_seconds() for _ in range(500)]
        assert seconds * (1 - JITTER) <= min(sampled) < seconds * 0.85
        assert seconds * 1.15 < max(sampled) <= seconds * (1 + JITTER)


def test_five_days_hold_eleven_attempts_without_jitter() -> None:
    at, attempts = timedelta(0), 1
    for failures in range(1, 100):
        at += WAITS[min(failures, len(WAITS)) - 1]
        if at > GIVE_UP:
            break
        attempts += 1
    assert attempts == 11


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_2xx_is_success(status: int, rng: random.Random) -> None:
    assert judge(answer(status, retry_after="60"), 0, rng).delivered
    assert judge(answer(status, retry_after="60"), 0, rng).throttle is None


@pytest.mark.parametrize("status", [100, 199, 300, 302, 304, 400, 404, 410, 429, 500, 503])
def test_nothing_else_is(status: int, rng: random.Random) -> None:
    outcome = judge(answer(status), 0, rng)
    assert not outcome.delivered
    assert outcome.gone == (status == 410)


def test_a_wait_that_the_receiver_asks_for_is_kept_where_it_is_the_longer_one(rng: random.Random) -> None:
    long = judge(answer(429, retry_after="7200"), 0, rng)
    assert (long.wait, long.throttle) == (timedelta(hours=2), timedelta(hours=2))
    short = judge(answer(503, retry_after="1"), 5, rng)
    assert short.wait >= timedelta(hours=8)
    assert short.throttle == timedelta(seconds=1)
    assert judge(answer(429, retry_after="9" * 30), 0, rng).throttle == timedelta(hours=24)


@pytest.mark.parametrize("status", [429, 502, 504])
def test_some_answers_throttle_without_saying_how_long(status: int, rng: random.Random) -> None:
    assert judge(answer(status), 0, rng).throttle == timedelta(seconds=30)
    assert judge(answer(500), 0, rng).throttle is None


@pytest.mark.parametrize("value", [None, "", "soon", "-5", "1.5", "٣", "Mon, 99 Foo 2026"])
def test_a_retry_after_that_is_none_is_no_wait(value: str | None) -> None:
    assert retry_after(value) is None


def test_a_retry_after_may_be_a_date() -> None:
    wait = retry_after(format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True))
    assert wait is not None
    assert timedelta(minutes=59) < wait <= timedelta(hours=1)
    assert retry_after("Thu, 01 Jan 1970 00:00:00 GMT") == timedelta(0)


def test_no_answer_is_logged_by_its_reason(rng: random.Random) -> None:
    outcome = judge(OutboundError(Reason.TLS, "x"), 0, rng)
    assert (outcome.delivered, outcome.error, outcome.status) == (False, "tls", None)


@pytest.mark.parametrize("body", [b"\xff\xfe" * 30_000, b"a\0b", "ü".encode() * 30_000, b""])
def test_a_kept_response_is_text_that_the_database_takes(body: bytes) -> None:
    text = readable(body)
    assert len(text.encode()) <= 20_000
    assert "\0" not in text


def test_a_body_stays_under_its_limit_by_leaving_out_regions_and_says_so() -> None:
    region = {"bbox": [410, 220, 300, 280], "area_fraction": 0.080123, "mean": 0.910123, "max": 0.990123}
    where = {"area_fraction": 0.1, "regions": [region] * 2_000}
    raw = webhook_body.encode("screening.completed", datetime.now(UTC), {"id": "scr_1", "localization": where})
    assert 19_000 < len(raw) < 20_000
    kept = json.loads(raw)["data"]["localization"]
    assert len(kept["regions"]) + kept["regions_omitted"] == 2_000
    small = {"id": "scr_1", "localization": {"regions": [region]}}
    assert json.loads(webhook_body.encode("t", datetime.now(UTC), small))["data"] == small


FIELD = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60)
DATE = st.builds(
    "{}, {:02d} {} {} {}:{}:{} {}".format,
    st.sampled_from(["Mon", "Sun", "X"]), st.integers(0, 99), st.sampled_from(["Jan", "Dec", "Foo"]),
    st.integers(0, 10**25), st.integers(0, 99), st.integers(0, 99), st.integers(0, 10**25),
    st.sampled_from(["GMT", "+9999", "-1400", "+" + "9" * 30, ""]),
)  # fmt: skip


@given(status=st.integers(200, 999), retry=FIELD | DATE | st.integers(0, 10**30).map(str), body=st.binary(max_size=300))
@example(status=429, retry="9" * 5_000, body=b"")
@example(status=503, retry="Mon, 01 Jan 99999999999999999999 00:00:00 GMT", body=b"\0\xff")
def test_whatever_a_stranger_answers_is_judged(status: int, retry: str, body: bytes) -> None:
    headers = httpx.Headers([(b"Retry-After", retry.encode("latin-1"))])
    outcome = judge(Answer(status, headers, body), 3, random.Random(1))
    assert outcome.delivered == (status < 300)
    assert timedelta(0) <= outcome.wait <= timedelta(hours=24) * (1 + JITTER)
    assert outcome.name in ("delivered", f"{status // 100}xx")
    assert outcome.response is not None
    assert "\0" not in outcome.response
