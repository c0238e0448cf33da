"""Which images look like this one, also turned or mirrored, among a million, in milliseconds?

PDQ hashes are 256 bits, near where at most 31 differ (Davis and Rosen 2019, "The TMK+PDQF video-hashing algorithm and
the PDQ image-hashing algorithm"). Cut into 16 pieces of 16 bits, two near hashes have a piece in which at most one bit
differs, because 31 < 2 * 16: so looking each piece up with none or one of its bits turned over finds every near hash,
and reads some thousandths of the index (multi-index hashing, Norouzi, Punjani and Fleet 2012, section 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import numpy.typing as npt

NEAR = 31
GOOD_QUALITY = 50  # below, an image has too little structure for its hash to mean anything
BITS, PIECES = 256, 16
BYTES = BITS // 8
# In the order in which the reference implementation of PDQ gives them.
TRANSFORMS = (
    "same", "rotated_90", "rotated_180", "rotated_270",
    "flipped", "mirrored", "rotated_90_flipped", "rotated_270_flipped",
)  # fmt: skip
# None or one of 16 bits turned over.
_TURNS = np.array([0, *(1 << bit for bit in range(16))], dtype=np.uint16)

Hashes = npt.NDArray[np.uint8]  # (n, 32)


@dataclass(frozen=True, slots=True)
class Near:
    """One image that looks like the one asked about."""

    screening_id: UUID
    distance: int
    transform: str


class HashIndex:
    """Hashes that never change, found by nearness. 100 bytes a hash; building a million takes about a second."""

    def __init__(self, hashes: Hashes) -> None:
        self._words = np.ascontiguousarray(hashes).view(np.uint64)  # (n, 4)
        pieces = np.ascontiguousarray(hashes).view(np.uint16)  # (n, 16)
        self._order: list[npt.NDArray[np.int32]] = []
        self._starts: list[npt.NDArray[np.int32]] = []
        for piece in pieces.T:
            self._order.append(np.argsort(piece, kind="stable").astype(np.int32))
            counts = np.bincount(piece, minlength=1 << 16)
            self._starts.append(np.concatenate(([0], np.cumsum(counts))).astype(np.int32))

    def __len__(self) -> int:
        return len(self._words)

    def near(self, query: Hashes, most: int = NEAR) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Positions and distances of every hash within `most` (at most 31) bits of a hash (32,)."""
        candidates = self._candidates(query)
        distances = _distances(self._words[candidates], query)
        chosen = distances <= most
        return candidates[chosen], distances[chosen]

    def _candidates(self, query: Hashes) -> npt.NDArray[np.int64]:
        parts = []
        for piece, value in enumerate(np.ascontiguousarray(query).view(np.uint16)):
            order, starts = self._order[piece], self._starts[piece]
            parts += [order[starts[turned] : starts[int(turned) + 1]] for turned in _TURNS ^ value]
        unique: npt.NDArray[np.int64] = np.unique(np.concatenate(parts)).astype(np.int64)
        return unique


def _distances(words: npt.NDArray[np.uint64], query: Hashes) -> npt.NDArray[np.int64]:
    differing = words ^ np.ascontiguousarray(query).view(np.uint64)
    distances: npt.NDArray[np.int64] = np.bitwise_count(differing).sum(axis=1, dtype=np.int64)
    return distances


class Likeness:
    """One platform's images by likeness. Grows: what came since the index was built is compared one by one."""

    REBUILD_AT = 20_000  # new hashes; comparing so many takes about a millisecond a query

    def __init__(self) -> None:
        self._ids: list[UUID] = []
        self._known: set[UUID] = set()
        self._index = HashIndex(np.empty((0, BYTES), np.uint8))
        self._hashes = bytearray()

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, rows: Sequence[tuple[UUID, bytes]]) -> None:
        """Take in images by screening id and hash; those already known are passed over."""
        for screening_id, pdq in rows:
            if screening_id not in self._known and len(pdq) == BYTES:
                self._known.add(screening_id)
                self._ids.append(screening_id)
                self._hashes += pdq
        if len(self._ids) - len(self._index) > self.REBUILD_AT:
            self._index = HashIndex(self._all())

    def _all(self) -> Hashes:
        return np.frombuffer(bytes(self._hashes), np.uint8).reshape(-1, BYTES)

    def near(self, queries: Sequence[bytes], most: int = NEAR) -> list[Near]:
        """Images near any of the queries (the upright hash, then the dihedral ones), nearest first."""
        best: dict[int, tuple[int, int]] = {}
        for transform, query in enumerate(queries):
            for position, distance in self._within(np.frombuffer(query, np.uint8), most):
                best[position] = min(best.get(position, (BITS, 0)), (distance, transform))
        found = [Near(self._ids[p], distance, TRANSFORMS[t]) for p, (distance, t) in best.items()]
        return sorted(found, key=lambda near: (near.distance, near.screening_id))

    def _within(self, query: Hashes, most: int) -> list[tuple[int, int]]:
        positions, distances = self._index.near(query, most)
        start = len(self._index) * BYTES
        recent = np.frombuffer(bytes(self._hashes[start:]), np.uint8).reshape(-1, BYTES)
        late = _distances(np.ascontiguousarray(recent).view(np.uint64), query)
        near = np.flatnonzero(late <= most)
        return [
            *zip(positions.tolist(), distances.tolist(), strict=True),
            *zip((near + len(self._index)).tolist(), late[near].tolist(), strict=True),
        ]


def queries(pdq: bytes, dihedral: bytes | None) -> list[bytes]:
    """The hashes to ask with: of the image as it is, and of its turned and mirrored forms where they are known."""
    turned = dihedral or b""
    return [pdq, *(turned[start : start + BYTES] for start in range(0, len(turned), BYTES))]
