"""Where forgers forge: near the middle and on what stands out, though not always."""

import numpy as np

from worker.defakerone.training.forgery.interest import draw_place, interest, pick_region
from worker.defakerone.training.forgery.photos import Pixels

SEED = 20261128


def _picture() -> Pixels:
    """A red thing on grey, right of the middle."""
    pixels = np.full((240, 320, 3), 120, np.uint8)
    pixels[80:160, 180:240] = (220, 20, 20)
    return pixels


def test_what_stands_out_near_the_middle_draws_the_eye_most() -> None:
    drawn = interest(_picture())
    thing, plain, corner = drawn[32, 52 * 64 // 80], drawn[32, 20], drawn[2, 2]
    assert thing > plain > corner > 0


def test_the_interesting_region_is_picked_more_often_and_the_other_one_sometimes() -> None:
    pixels, rng = _picture(), np.random.default_rng(SEED)
    thing, corner = np.zeros((2, 240, 320), np.uint8)
    thing[80:160, 180:240] = 255
    corner[:60, :60] = 255
    picked = [pick_region(rng, pixels, [corner, thing]) is thing for _ in range(200)]
    assert 140 < sum(picked) < 200


def test_places_gather_near_the_middle_and_reach_every_quarter() -> None:
    rng = np.random.default_rng(SEED)
    places = np.array([draw_place(rng) for _ in range(1000)])
    assert ((places >= 0) & (places <= 1)).all()
    middle = (np.abs(places - 0.5) < 0.25).all(1).mean()
    assert 0.4 < middle < 0.8
    assert all(((places < 0.5) == quarter).all(1).sum() > 150 for quarter in ([0, 0], [0, 1], [1, 0], [1, 1]))
