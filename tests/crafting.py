"""How are the files made that no library would write? Byte by byte, small, and at once."""

import struct
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

PNG = b"\x89PNG\r\n\x1a\n"
GREY, RGB, RGBA = 0, 2, 6  # colour types of PNG


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """A PNG chunk with its length and CRC."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int,
    height: int,
    packed: bytes,
    *,
    colour: int = RGB,
    depth: int = 8,
    before: Sequence[bytes] = (),
    after: Sequence[bytes] = (),
) -> bytes:
    """A PNG around deflated scanlines, with further chunks before and after them."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return PNG + header + b"".join(before) + chunk(b"IDAT", packed) + b"".join(after) + chunk(b"IEND")


def png_of(
    pixels: NDArray[np.uint8] | NDArray[np.uint16], *, before: Sequence[bytes] = (), after: Sequence[bytes] = ()
) -> bytes:
    """A PNG of (height, width, 3) or (height, width) pixels with eight or sixteen bits."""
    height, width = pixels.shape[:2]
    wide = pixels.astype(f">u{pixels.itemsize}").reshape(height, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    colour = RGB if pixels.ndim == 3 else GREY
    packed = zlib.compress(rows)
    return png(width, height, packed, colour=colour, depth=8 * pixels.itemsize, before=before, after=after)


def deflated_zeros(count: int) -> bytes:
    """The zlib stream of `count` zero bytes, made from repeated blocks instead of from the bytes."""
    block = 1 << 20
    press = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = press.compress(bytes(block)) + press.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compressobj(9, zlib.DEFLATED, -15)
    tail = last.compress(bytes(count % block)) + last.flush()
    # Adler-32 of zeros: the low half stays 1, the high half counts them.
    check = struct.pack(">I", ((count % 65521) << 16) | 1)
    return b"\x78\xda" + first * (count // block) + tail + check


def flat_png(width: int, height: int, *, colour: int = RGBA, depth: int = 8) -> bytes:
    """A PNG of nothing but zeros, however large."""
    channels = {GREY: 1, RGB: 3, RGBA: 4}[colour]
    row = 1 + (width * channels * depth + 7) // 8
    return png(width, height, deflated_zeros(row * height), colour=colour, depth=depth)


def gif(frames: int, size: int = 4) -> bytes:
    """A GIF of equal black frames, a few bytes each."""
    screen = b"GIF89a" + struct.pack("<HHBBB", size, size, 0x80, 0, 0) + bytes(6)
    # Clear, then one code for each pixel with clears between so that codes stay 3 bits wide, then the end.
    codes = [4, *(code for _ in range(size * size) for code in (0, 4)), 5]
    bits = sum(code << 3 * at for at, code in enumerate(codes))
    packed = bits.to_bytes((3 * len(codes) + 7) // 8, "little")
    picture = b"," + struct.pack("<HHHHB", 0, 0, size, size, 0) + b"\x02" + bytes([len(packed)]) + packed + b"\0"
    return screen + picture * frames + b";"


def tiff(pages: int, *, looped: bool = False) -> bytes:
    """A TIFF of equal 1 x 1 grey pages; `looped`: the last directory names the first as the next."""
    head = b"II*\0" + struct.pack("<I", 16) + b"\x80" + bytes(7)  # the one pixel lies at 8
    entries = [
        (256, 3, 1),
        (257, 3, 1),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, 1),
        (279, 4, 1),
    ]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    size = 2 + len(body) + 4
    made = []
    for page in range(pages):
        following = 16 + size * (page + 1) if page + 1 < pages else (16 if looped else 0)
        made.append(struct.pack("<H", len(entries)) + body + struct.pack("<I", following))
    return head + b"".join(made)


def with_segments(jpeg: bytes, segments: Iterable[tuple[int, bytes]]) -> bytes:
    """A JPEG with marker segments put in behind its start."""
    extra = b"".join(b"\xff" + bytes([marker]) + struct.pack(">H", 2 + len(data)) + data for marker, data in segments)
    return jpeg[:2] + extra + jpeg[2:]


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG whose frame header claims another size."""
    at = next(i for i in range(2, len(jpeg)) if jpeg[i] == 0xFF and jpeg[i + 1] in (0xC0, 0xC2))
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP container of these chunks."""
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def riff_chunks(webp: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a WebP container."""
    found, at = [], 12
    while at + 8 <= len(webp):
        size = struct.unpack_from("<I", webp, at + 4)[0]
        found.append((webp[at : at + 4], webp[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    return found


def exif(orientation: int, order: str = "MM") -> bytes:
    """An EXIF block that says nothing but the orientation."""
    form = ">" if order == "MM" else "<"
    entry = struct.pack(form + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return order.encode() + struct.pack(form + "HIH", 42, 8, 1) + entry + bytes(4)
