"""How was a JPEG compressed, and where in a file does its EXIF block lie? Read from the markers, nothing is decoded."""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

# ITU-T T.81, annex K.1, in zigzag order: the table that libjpeg scales by quality.
LUMINANCE = (
    16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61,
    60, 57, 51, 56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87, 95, 98, 103, 104, 103, 62, 77, 113,
    121, 112, 100, 120, 92, 101, 103, 99,
)  # fmt: skip


def _scaled() -> npt.NDArray[np.int64]:
    """(100, 64): the table at each quality from 1 to 100."""
    quality = np.arange(1, 101)[:, None]
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    scaled: npt.NDArray[np.int64] = np.clip((np.array(LUMINANCE) * scale + 50) // 100, 1, 255)
    return scaled


SCALED = _scaled()
START_OF_SCAN, TABLES, EXIF_MARKER = 0xDA, 0xDB, 0xE1
STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
LARGEST_EXIF = 1 << 18


def traces(data: bytes) -> dict[str, Any] | None:
    """`{"quality", "tables", "standard"}` of a JPEG, or None; quality as libjpeg counts it, exact where standard."""
    tables: dict[int, tuple[int, ...]] = {}
    for marker, content in segments(data):
        if marker == TABLES:
            tables.update(_tables(content))
    if 0 not in tables:
        return None
    distances = np.abs(SCALED - np.array(tables[0])).sum(axis=1)
    nearest = int(distances.argmin())
    return {"quality": nearest + 1, "tables": len(tables), "standard": bool(distances[nearest] == 0)}


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers with their contents, up to the first scan."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == START_OF_SCAN:
            return
        if marker == 0xFF or marker in STANDALONE:
            position += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        yield marker, data[position + 4 : position + 2 + length]
        position += 2 + max(length, 2)


def _tables(content: bytes) -> dict[int, tuple[int, ...]]:
    found, position = {}, 0
    while position < len(content):
        wide, identity = content[position] >> 4, content[position] & 15
        size = 128 if wide else 64
        values = content[position + 1 : position + 1 + size]
        if len(values) < size:
            break
        found[identity] = struct.unpack(">64H" if wide else "64B", values)
        position += 1 + size
    return found


def exif_block(data: bytes, format: str) -> bytes | None:
    """The TIFF structure of a file's EXIF (JPEG APP1, PNG eXIf, WebP EXIF), or None."""
    block = {"jpeg": _of_jpeg, "png": _of_png, "webp": _of_webp}.get(format, lambda _: None)(data)
    return block if block is not None and len(block) <= LARGEST_EXIF else None


def _of_jpeg(data: bytes) -> bytes | None:
    for marker, content in segments(data):
        if marker == EXIF_MARKER and content.startswith(b"Exif\0\0"):
            return content[6:]
    return None


def _of_png(data: bytes) -> bytes | None:
    position = 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"eXIf":
            return data[position + 8 : position + 8 + length]
        position += 12 + length
    return None


def _of_webp(data: bytes) -> bytes | None:
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind == b"EXIF":
            return data[position + 8 : position + 8 + length].removeprefix(b"Exif\0\0")
        position += 8 + length + length % 2
    return None
