"""The API's small parts: cursors, preferences, pointers, trace context, and what importing it costs."""

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from api.cursors import Cursors
from api.prefer import wait_seconds
from api.problems import Problem, pointer
from api.schemas.fields import MAX_METADATA_BYTES
from api.trace_context import traceparent
from screening.errors import ConfigurationError
from screening.ids import uuid7
from screening.settings import Settings

HEAVY = ("torch", "transformers", "sam2", "worker")


def test_importing_the_api_loads_no_torch() -> None:
    program = f"import sys, api.app; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_cursor_comes_back_as_it_was() -> None:
    at, id = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), uuid7()
    cursors = Cursors(["a"])
    assert cursors.decode({"list": "x"}, cursors.encode({"list": "x"}, at, id)) == (at, id)


def test_keys_can_be_rotated_under_a_cursor() -> None:
    cursor = Cursors(["old"]).encode({}, datetime.now(UTC), uuid7())
    assert Cursors(["new", "old"]).decode({}, cursor)
    with pytest.raises(Problem):
        Cursors(["new"]).decode({}, cursor)


def test_no_bit_of_a_cursor_can_be_changed() -> None:
    cursors = Cursors(["a"])
    cursor = cursors.encode({}, datetime.now(UTC), uuid7())
    for position in range(len(cursor) - 1):
        changed = cursor[:position] + ("A" if cursor[position] != "A" else "B") + cursor[position + 1 :]
        with pytest.raises(Problem):
            cursors.decode({}, changed)


@pytest.mark.parametrize("cursor", ["", "=", "é", "A", "A" * 1000, "\0"])
def test_what_was_never_a_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(Problem):
        Cursors(["a"]).decode({}, cursor)


def test_without_secret_keys_there_are_no_cursors() -> None:
    with pytest.raises(ConfigurationError, match="ASSAY_SECRET_KEYS"):
        Cursors([])


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 0), ("", 0), ("wait=5", 5), ("respond-async, wait=100", 30), ('wait="7"', 7), ("WAIT = 3", 3),
     ("wait=-1", 0), ("wait", 0), ("wait=x, wait=2", 2), ("wait=2; foo", 2)],
)  # fmt: skip
def test_a_preference_is_read_and_never_an_error(header: str | None, seconds: int) -> None:
    assert wait_seconds(header, 30) == seconds


@pytest.mark.parametrize(
    ("location", "expected"),
    [(("body", "source", "url"), "#/source/url"), (("body",), "#"), (("query", "limit"), "#/query/limit"),
     (("body", "a/b", "c~d", 0), "#/a~1b/c~0d/0")],
)  # fmt: skip
def test_locations_become_json_pointers(location: tuple[str | int, ...], expected: str) -> None:
    assert pointer(location) == expected


def test_a_traceparent_of_a_later_version_is_cut_to_what_we_know() -> None:
    known = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert traceparent(known + "-more") == known
    assert traceparent("ff" + known[2:]) is None


def test_the_contracts_metadata_limit_is_the_settings_default() -> None:
    assert Settings.model_fields["max_metadata_bytes"].default == MAX_METADATA_BYTES
