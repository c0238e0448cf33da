"""Near hashes are found, all of them and nothing else."""

import random

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from screening.ids import uuid7
from screening.similar import BYTES, NEAR, TRANSFORMS, HashIndex, Likeness, queries
from worker import pdq

Bytes = npt.NDArray[np.uint8]


def hashes(rng: random.Random, count: int) -> Bytes:
    return np.frombuffer(rng.randbytes(count * BYTES), np.uint8).reshape(count, BYTES)


def turned(rng: random.Random, base: Bytes, bits: int) -> Bytes:
    """The hash with so many of its bits turned over."""
    made = base.copy()
    for bit in rng.sample(range(256), bits):
        made[bit // 8] ^= 1 << (bit % 8)
    return made


def test_every_hash_within_31_bits_is_found_and_none_beyond(rng: random.Random) -> None:
    base = hashes(rng, 1)[0]
    distances = list(range(41)) * 5
    planted = np.array([turned(rng, base, distance) for distance in distances])
    everything = np.concatenate([hashes(rng, 5000), planted])
    positions, found = HashIndex(everything).near(base)
    expected = {5000 + i: d for i, d in enumerate(distances) if d <= NEAR}
    assert dict(zip(positions.tolist(), found.tolist(), strict=True)) == expected


def test_differences_spread_over_all_pieces_are_found(rng: random.Random) -> None:
    """The worst case of the pigeonhole: two bits in fifteen pieces, one in the last."""
    base = hashes(rng, 1)[0]
    worst = base.copy()
    for bit in [piece * 16 + offset for piece in range(16) for offset in (3, 11)][:31]:
        worst[bit // 8] ^= 1 << (bit % 8)
    positions, found = HashIndex(worst[None]).near(base)
    assert (positions.tolist(), found.tolist()) == ([0], [31])


def test_an_empty_index_finds_nothing(rng: random.Random) -> None:
    assert Likeness().near([hashes(rng, 1)[0].tobytes()]) == []


def test_what_came_since_the_index_was_built_is_found_too(rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Likeness, "REBUILD_AT", 100)
    base = hashes(rng, 1)[0]
    likeness, ids = Likeness(), []
    for distance in (3, 30, 5):
        ids.append(uuid7())
        likeness.add([(ids[-1], turned(rng, base, distance).tobytes())])
        likeness.add([(uuid7(), h.tobytes()) for h in hashes(rng, 150)])
        likeness.add([(ids[-1], base.tobytes())])  # known already
    assert [(n.screening_id, n.distance) for n in likeness.near([base.tobytes()])] == [
        (ids[0], 3), (ids[2], 5), (ids[1], 30),
    ]  # fmt: skip
    assert len(likeness) == 453


def test_turned_and_mirrored_copies_are_found_and_named(rng: random.Random) -> None:
    picture = cv2.GaussianBlur(np.frombuffer(rng.randbytes(512 * 512 * 3), np.uint8).reshape(512, 512, 3), (0, 0), 24)
    picture = ((picture.astype(float) - picture.min()) * (255 / np.ptp(picture))).astype(np.uint8)
    copies = {
        "rotated_180": np.rot90(picture, 2), "mirrored": picture[:, ::-1], "flipped": picture[::-1],
        "rotated_90": np.rot90(picture), "rotated_270": np.rot90(picture, 3),
    }  # fmt: skip
    likeness, names = Likeness(), {}
    for name, copy in copies.items():
        names[uuid7()] = name
        likeness.add([(list(names)[-1], pdq.dihedral(copy)[0][0])])
    upright, *rest = pdq.dihedral(picture)[0]
    found = {names[n.screening_id]: n.transform for n in likeness.near(queries(upright, b"".join(rest)))}
    assert set(found) == set(copies)
    assert found["rotated_180"] == "rotated_180"
    assert len(set(found.values())) == len(copies)
    assert set(found.values()) <= set(TRANSFORMS)
