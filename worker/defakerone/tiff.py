"""How many pages has a TIFF, without reading what is in them?

Pillow counts by parsing every directory to the end however long that takes. This follows the chain of directories
(TIFF 6.0, section 2; BigTIFF has the same with wider numbers) and stops at a limit.
"""

from __future__ import annotations

import struct


def count_tiff_pages(data: bytes, limit: int) -> int:
    """Count directories, up to `limit` + 1; a chain that loops or breaks off counts what came before."""
    order = "<" if data[:2] == b"II" else ">"
    big = _number(data, 2, order + "H") == 43
    count_form, offset_form, entry_bytes, start = ("Q", "Q", 20, 8) if big else ("H", "I", 12, 4)
    seen: set[int] = set()
    at = _number(data, start, order + offset_form)
    while at and at not in seen and len(seen) <= limit:
        entries = _number(data, at, order + count_form)
        if not entries:
            break
        seen.add(at)
        at = _number(data, at + struct.calcsize(order + count_form) + entries * entry_bytes, order + offset_form)
    return len(seen)


def _number(data: bytes, at: int, form: str) -> int:
    """The number at `at`; 0, which ends every walk, where the data end before it does."""
    return int(struct.unpack_from(form, data, at)[0]) if at + struct.calcsize(form) <= len(data) else 0
