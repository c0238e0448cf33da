"""How many frames has a GIF, without decoding any?

Pillow counts by walking to the end however long that takes. This walks the blocks (GIF89a, section 12) and stops at a
limit.
"""

from __future__ import annotations

from typing import Final

_IMAGE, _EXTENSION = 0x2C, 0x21
_HEADER: Final = 13


def count_gif_frames(data: bytes, limit: int) -> int:
    """Count image blocks, up to `limit` + 1; a file that breaks off counts what came before."""
    at, frames = _HEADER + _table_bytes(data, 10), 0
    while at < len(data) and frames <= limit:
        kind = data[at]
        if kind == _IMAGE:
            frames += 1
            at = _after_sub_blocks(data, at + 10 + _table_bytes(data, at + 9) + 1)  # descriptor, colours, code size
        elif kind == _EXTENSION:
            at = _after_sub_blocks(data, at + 2)
        else:
            break  # the trailer, or garbage
    return frames


def _table_bytes(data: bytes, flags_at: int) -> int:
    flags = data[flags_at] if flags_at < len(data) else 0
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_sub_blocks(data: bytes, at: int) -> int:
    while at < len(data) and data[at]:
        at += data[at] + 1
    return at + 1
