"""Our PDQ hashes are those of the reference implementation, so that lists of hashes can be exchanged with anybody."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from screening.similar import NEAR, TRANSFORMS
from worker import pdq

SAMPLES = Path(__file__).parents[2] / "screening" / "samples"
KNOWN = json.loads((Path(__file__).parents[1] / "fixtures" / "pdq.json").read_text())["pictures"]
# JPEG decoders differ by a grey level here and there, which may turn a bit whose coefficient lies on the median.
ON_THE_MEDIAN = 2


def picture(name: str) -> pdq.Pixels:
    return np.asarray(Image.open(SAMPLES / name).convert("RGB"))


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_hashes_are_those_of_the_reference_implementation(name: str) -> None:
    hashes, quality = pdq.dihedral(picture(name))
    assert len(hashes) == len(TRANSFORMS)
    for ours, theirs in zip(hashes, KNOWN[name]["hashes"], strict=True):
        assert pdq.distance(ours, bytes.fromhex(theirs)) <= ON_THE_MEDIAN
    assert abs(quality - KNOWN[name]["quality"]) <= 1


def test_copies_are_near_and_other_pictures_are_not() -> None:
    names = sorted(KNOWN)
    hashes = {name: pdq.dihedral(picture(name))[0][0] for name in names}
    for name in names:
        smaller = np.asarray(Image.fromarray(picture(name)).reduce(3))
        brighter = np.clip(picture(name).astype(int) + 20, 0, 255).astype(np.uint8)
        for copy in (smaller, brighter):
            assert pdq.distance(pdq.dihedral(copy)[0][0], hashes[name]) <= NEAR
        for other in names:
            assert other == name or pdq.distance(hashes[other], hashes[name]) > NEAR


def test_the_hash_of_a_turned_picture_is_the_turned_hash() -> None:
    original = picture("sample-1.jpg")[:480, :480]
    upright = pdq.dihedral(original)[0]
    turned = {
        "rotated_90": np.rot90(original), "rotated_180": np.rot90(original, 2), "rotated_270": np.rot90(original, 3),
        "flipped": original[::-1], "mirrored": original[:, ::-1],
    }  # fmt: skip
    for name, copy in turned.items():
        distances = [pdq.distance(pdq.dihedral(copy)[0][0], way) for way in upright]
        assert TRANSFORMS[int(np.argmin(distances))] == name
        assert min(distances) <= NEAR


def test_a_picture_without_structure_says_so(rng: random.Random) -> None:
    flat = np.full((40, 60, 3), rng.randrange(256), np.uint8)
    hashes, quality = pdq.dihedral(flat)
    assert quality == 0
    assert {len(one) for one in hashes} == {32}
    assert pdq.dihedral(np.zeros((1, 1, 3), np.uint8))[1] == 0
