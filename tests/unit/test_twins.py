"""Equal bytes wait for the first of them, which everybody leaves when it has ended."""

from datetime import UTC, datetime
from uuid import UUID

from screening.ids import uuid7
from screening.jobs import Claim
from worker.twins import Twins

ACME, OTHER = uuid7(), uuid7()


def claim(content: bytes | None, platform: UUID = ACME) -> Claim:
    now = datetime.now(UTC)
    return Claim(
        screening_id=uuid7(), platform_id=platform, attempt=1, strikes=0, alone=False, priority="normal",
        created_at=now, started_at=now, source=None, traceparent=None, image_id=None, blob_key="k", sha256=content,
    )  # fmt: skip


def test_equal_bytes_wait_for_the_first_and_get_what_it_got() -> None:
    twins, first, second, third = Twins(), claim(b"a"), claim(b"a"), claim(b"a")
    assert [twins.wait(c) for c in (first, second, third)] == [False, True, True]
    assert twins.part(first) == [second, third]
    assert twins.part(first) == twins.part(second) == []


def test_after_the_first_has_ended_the_next_is_a_first_again() -> None:
    twins, first, second, third = Twins(), claim(b"a"), claim(b"a"), claim(b"a")
    twins.wait(first)
    twins.part(first)
    assert not twins.wait(second)
    assert twins.wait(third)
    assert twins.part(second) == [third]


def test_neither_other_bytes_nor_other_platforms_nor_bytes_still_to_come_are_waited_for() -> None:
    twins = Twins()
    claims = [claim(b"a"), claim(b"b"), claim(b"a", OTHER), claim(None), claim(None)]
    assert not any(twins.wait(c) for c in claims)


def test_a_row_that_comes_back_to_the_same_hands_does_not_wait_for_itself() -> None:
    twins, first = Twins(), claim(b"a")
    assert not twins.wait(first)
    assert not twins.wait(first)


def test_closing_forgets_everybody() -> None:
    twins, first, second = Twins(), claim(b"a"), claim(b"a")
    twins.wait(first)
    twins.wait(second)
    twins.close()
    assert twins.part(first) == []
    assert not twins.wait(second)
