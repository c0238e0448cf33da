"""What follows an attempt to deliver? Success, a later try, or a pause for the whole endpoint."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from screening.outbound import Answer, OutboundError

# Waits after the first failure, the second, ...; then the last one again, until GIVE_UP after the first attempt.
WAITS = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
GIVE_UP = timedelta(days=5)
JITTER = 0.2  # receivers that were away together must not be met by everything at once
KEPT_RESPONSE = 20_000  # bytes of a response body that the log keeps

GONE = 410
THROTTLING = (429, 502, 504)  # Standard Webhooks: these ask for less, also where they do not say how long
THROTTLE_WITHOUT_WORD = timedelta(seconds=30)
THROTTLE_AT_MOST = timedelta(hours=24)  # `Retry-After: 999999999` is not a way to keep rows forever


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attempt, for the row, the log and the endpoint."""

    delivered: bool
    wait: timedelta  # until the next try, if there is one
    gone: bool = False  # the endpoint says that it does not exist any more
    throttle: timedelta | None = None  # nothing else goes to the endpoint meanwhile
    status: int | None = None
    error: str | None = None
    response: str | None = None

    @property
    def name(self) -> str:
        """One word for it, as metrics count it: delivered, a class of status as `5xx`, or the error."""
        if self.delivered:
            return "delivered"
        return f"{self.status // 100}xx" if self.status is not None else self.error or "unknown"


def wait_after(failures: int, rng: random.Random) -> timedelta:
    """How long to wait after this many failures (at least one)."""
    return WAITS[min(failures, len(WAITS)) - 1] * rng.uniform(1 - JITTER, 1 + JITTER)


def failed(error: str, failures: int, rng: random.Random) -> Outcome:
    """No answer at all, for a reason in one word."""
    return Outcome(delivered=False, wait=wait_after(failures + 1, rng), error=error)


def judge(result: Answer | OutboundError, failures: int, rng: random.Random) -> Outcome:
    """What an answer, or its absence, means for a delivery that has failed `failures` times before."""
    if isinstance(result, OutboundError):
        return failed(result.reason.value, failures, rng)
    wait = wait_after(failures + 1, rng)
    delivered = 200 <= result.status < 300
    throttle = None if delivered else _throttle(result)
    return Outcome(
        delivered=delivered,
        wait=max(wait, throttle or wait),
        gone=result.status == GONE,
        throttle=throttle,
        status=result.status,
        error=None if result.cut is None else result.cut.value,
        response=readable(result.body),
    )


def _throttle(answer: Answer) -> timedelta | None:
    asked = retry_after(answer.headers.get("retry-after"))
    if asked is None:
        return THROTTLE_WITHOUT_WORD if answer.status in THROTTLING else None
    return min(asked, THROTTLE_AT_MOST)


def retry_after(value: str | None) -> timedelta | None:
    """`Retry-After` as a wait (RFC 9110, section 10.2.3): seconds or a date; None for neither.

    A stranger writes it: `int` refuses thousands of digits, and dates may name a year or an offset that no clock has.
    """
    if value is None:
        return None
    try:
        if value.strip().isascii() and value.strip().isdigit():
            return timedelta(seconds=min(int(value), int(THROTTLE_AT_MOST.total_seconds())))
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(timedelta(0), at - datetime.now(UTC))


def readable(body: bytes) -> str:
    """A response body as the log keeps it: text without NUL, at most KEPT_RESPONSE bytes."""
    text = body[:KEPT_RESPONSE].decode(errors="replace").replace("\0", "\ufffd")
    return text.encode()[:KEPT_RESPONSE].decode(errors="ignore")
