"""How is a good image file turned into a bad one? By a chance that knows where formats keep their fields."""

import random
import struct
import zlib
from collections.abc import Callable, Sequence

from tests.crafting import PNG, chunk, riff, riff_chunks

Mutator = Callable[[random.Random, bytes], bytes]

# Where readers go wrong: nothing, one, the ends of signed and unsigned ranges, and sizes that overflow when multiplied.
NUMBERS = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
HEADER = 512  # most fields that matter lie in the first bytes


def mutate(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One mutant: a seed, after one to four mutations."""
    data = rng.choice(seeds)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        data = splice(rng, data, rng.choice(seeds)) if rng.random() < 0.08 else rng.choice(MUTATORS)(rng, data)
    return data


def flip(rng: random.Random, data: bytes) -> bytes:
    """Change some bytes anywhere."""
    changed = bytearray(data)
    for _ in range(min(len(changed), rng.choice((1, 1, 2, 4, 16, 64)))):
        at = rng.randrange(len(changed))
        changed[at] = rng.choice((changed[at] ^ (1 << rng.randrange(8)), rng.randrange(256)))
    return bytes(changed)


def edit_field(rng: random.Random, data: bytes) -> bytes:
    """Write a number that is likely to hurt over one, two, four or eight bytes near the front."""
    form = rng.choice(("B", "<H", ">H", "<I", ">I", ">Q", "<Q"))
    size = struct.calcsize(form)
    if len(data) < size:
        return data
    at = rng.randrange(min(HEADER, len(data) - size) + 1)
    return data[:at] + struct.pack(form, rng.choice(NUMBERS) % (1 << 8 * size)) + data[at + size :]


def truncate(rng: random.Random, data: bytes) -> bytes:
    """Cut it off anywhere."""
    return data[: rng.randrange(len(data) + 1)]


def remove(rng: random.Random, data: bytes) -> bytes:
    """Take a piece out."""
    start, end = _range(rng, data)
    return data[:start] + data[end:]


def repeat(rng: random.Random, data: bytes) -> bytes:
    """Say a piece again, perhaps often."""
    start, end = _range(rng, data)
    return data[:end] + data[start:end] * rng.choice((1, 1, 2, 8)) + data[end:]


def insert(rng: random.Random, data: bytes) -> bytes:
    """Put noise, zeros or ones in."""
    at, count = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 16, 300))
    return data[:at] + rng.choice((rng.randbytes(count), bytes(count), b"\xff" * count)) + data[at:]


def splice(rng: random.Random, front: bytes, back: bytes) -> bytes:
    """The front of one file and the back of another."""
    share = rng.random()
    return front[: int(share * len(front))] + back[int(share * len(back)) :]


def rearrange(rng: random.Random, data: bytes) -> bytes:
    """Shuffle, drop, double or damage the parts that the format itself names, with lengths and checksums kept right."""
    if data.startswith(PNG):
        kinds = _png_chunks(data)
        return PNG + b"".join(chunk(kind, body) for kind, body in _disturbed(rng, kinds))
    if data.startswith(b"RIFF"):
        return riff(*_disturbed(rng, riff_chunks(data)))
    if data.startswith(b"\xff\xd8"):
        segments, rest = _jpeg_segments(data)
        body = b"".join(kind + struct.pack(">H", len(part) + 2) + part for kind, part in _disturbed(rng, segments))
        return data[:2] + body + rest
    return flip(rng, data)


MUTATORS: tuple[Mutator, ...] = (
    flip, flip, edit_field, edit_field, edit_field, truncate, remove, repeat, insert, rearrange, rearrange, rearrange,
)  # fmt: skip


def _range(rng: random.Random, data: bytes) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 2, 4, 16, 64, 256, 4096)))


def _disturbed(rng: random.Random, parts: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    parts = [(kind, body[:65_000]) for kind, body in parts]
    if not parts:
        return parts
    at = rng.randrange(len(parts))
    kind, body = parts[at]
    match rng.randrange(5):
        case 0:
            rng.shuffle(parts)
        case 1:
            del parts[at]
        case 2:
            parts.insert(rng.randrange(len(parts) + 1), parts[at])
        case 3:
            parts[at] = kind, rng.choice((flip, edit_field, truncate))(rng, body) if body else b"\0"
        case _:
            parts[at] = kind, _packed_differently(rng, body)
    return parts


def _packed_differently(rng: random.Random, body: bytes) -> bytes:
    """Where a part is deflated, damage what is inside, so that the damage gets past the checksum."""
    try:
        inside = zlib.decompress(body)
    except zlib.error:
        return flip(rng, body) if body else body
    return zlib.compress(rng.choice((flip, truncate, repeat))(rng, inside))


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], len(PNG)
    while at + 8 <= len(data):
        size = struct.unpack_from(">I", data, at)[0]
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def _jpeg_segments(data: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The segments up to the first scan, and the rest."""
    found, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        size = struct.unpack_from(">H", data, at + 2)[0]
        found.append((data[at : at + 2], data[at + 4 : at + 2 + size]))
        at += 2 + max(2, size)
    return found, data[at:]
