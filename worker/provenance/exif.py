"""What did the camera write down? EXIF as readable lines, the position apart, and the embedded thumbnail."""

import struct
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from PIL import ExifTags, Image

MOST_LINES, LONGEST_VALUE = 60, 200
# Pillow reads EXIF in Python alone; what damaged blocks make it raise.
DAMAGED = (
    SyntaxError, ValueError, struct.error, KeyError, TypeError, IndexError, OverflowError, EOFError, OSError,
    ZeroDivisionError, AttributeError, RecursionError,
)  # fmt: skip
HIDDEN = frozenset({"GPSInfo", "ExifOffset", "MakerNote", "PrintImageMatching", "XMLPacket", "ImageResources"})
THUMBNAIL_OFFSET, THUMBNAIL_LENGTH = 0x0201, 0x0202


@dataclass(frozen=True, slots=True)
class Exif:
    """What an EXIF block says."""

    lines: list[dict[str, Any]] = field(default_factory=list)  # {"name", "value"}
    gps: dict[str, float] | None = None
    orientation: int = 1
    thumbnail: bytes | None = None


def read(block: bytes) -> Exif:
    """Everything readable in a block; nothing where it is damaged."""
    exif = Image.Exif()
    try:
        exif.load(b"Exif\0\0" + block)
        tags = {**dict(exif), **exif.get_ifd(ExifTags.IFD.Exif)}
        return Exif(_lines(tags), _position(exif), _orientation(tags), _thumbnail(exif, block))
    except DAMAGED:
        return Exif()


def _lines(tags: dict[int, Any]) -> list[dict[str, Any]]:
    named = ((ExifTags.TAGS.get(tag, f"0x{tag:04x}"), value) for tag, value in tags.items())
    return [
        {"name": name, "value": shown}
        for name, value in named
        if name not in HIDDEN and (shown := _shown(value)) is not None
    ][:MOST_LINES]


def _shown(value: Any) -> str | None:
    """A value as text without control characters; None for what is binary."""
    if isinstance(value, bytes):
        return None
    text = "".join(c for c in str(value) if c.isprintable()).encode("utf-8", "replace").decode()
    return text.strip()[:LONGEST_VALUE] or None


def _orientation(tags: dict[int, Any]) -> int:
    value = tags.get(ExifTags.Base.Orientation, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _position(exif: Image.Exif) -> dict[str, float] | None:
    tags = exif.get_ifd(ExifTags.IFD.GPSInfo)
    latitude = _degrees(tags.get(ExifTags.GPS.GPSLatitude), tags.get(ExifTags.GPS.GPSLatitudeRef) == "S")
    longitude = _degrees(tags.get(ExifTags.GPS.GPSLongitude), tags.get(ExifTags.GPS.GPSLongitudeRef) == "W")
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return None
    return {"latitude": latitude, "longitude": longitude}


def _degrees(value: Any, negative: bool) -> float | None:
    if not isinstance(value, tuple) or len(value) != 3:
        return None
    degrees, minutes, seconds = (Fraction(float(part)) for part in value)
    found = float(degrees + minutes / 60 + seconds / 3600)
    return round(-found if negative else found, 6)


def _thumbnail(exif: Image.Exif, block: bytes) -> bytes | None:
    tags = exif.get_ifd(ExifTags.IFD.IFD1)
    offset, length = tags.get(THUMBNAIL_OFFSET), tags.get(THUMBNAIL_LENGTH)
    if not isinstance(offset, int) or not isinstance(length, int) or not 0 < offset <= offset + length <= len(block):
        return None
    return block[offset : offset + length]
