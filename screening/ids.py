"""How is a thing named outside? As `<prefix>_<32 hex digits>` of a UUIDv7 (RFC 9562, section 5.7)."""

import os
import time
from enum import StrEnum
from uuid import UUID


class Prefix(StrEnum):
    """One prefix a noun, so that an id in a log says what it is."""

    PLATFORM = "plt"
    API_KEY = "key"
    SCREENING = "scr"
    IMAGE = "img"
    EVENT = "evt"
    ENDPOINT = "whe"
    DELIVERY = "dlv"
    REVIEW = "rev"
    REVIEWER = "rvr"
    DECISION = "dec"
    FEEDBACK = "fbk"
    REQUEST = "req"


def uuid7() -> UUID:
    """A time-ordered UUID: neighbours in time are neighbours in the index."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    value &= ~(0xF << 76) & ~(0x3 << 62)
    return UUID(int=value | (0x7 << 76) | (0x2 << 62))


def encode(prefix: Prefix, value: UUID) -> str:
    """`scr_0190...` for a screening's UUID."""
    return f"{prefix}_{value.hex}"


def decode(prefix: Prefix, text: str) -> UUID | None:
    """The UUID behind an id of this noun, or None: callers answer 404 alike for malformed, unknown and foreign ids."""
    head, _, tail = text.partition("_")
    if head != prefix or len(tail) != 32 or not tail.isascii() or not tail.isalnum() or tail != tail.lower():
        return None
    try:
        return UUID(hex=tail)
    except ValueError:
        return None
