"""Mask balance: the weights carry a shift of every logit, and 0.5 becomes the best place to cut."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from worker.defakerone.config import DEFAKERONE_TINY
from worker.defakerone.detector import DeFakerOne
from worker.defakerone.training.balance import SHIFTS, balance_masks, least_marking, overlap, shift_logits
from worker.defakerone.training.forgery.synthesis import Sample

TOKENIZER = Path(__file__).parents[2] / "fixtures" / "defakerone" / "checkpoint"
SEED = 20261123


@pytest.fixture
def model() -> DeFakerOne:
    return DeFakerOne.from_config(DEFAKERONE_TINY, TOKENIZER, seed=3)


def _sample(number: int) -> Sample:
    rng = np.random.default_rng((SEED, number))
    pixels = rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)
    mask = np.zeros((96, 128), np.uint8)
    mask[20:70, 30:90] = 255
    return Sample(pixels, mask, True, "nature", "splice", (str(number),))


def test_a_shift_moves_the_logits_of_every_picture_upwards(model: DeFakerOne) -> None:
    print(f"seed {SEED}")
    samples = [_sample(number) for number in range(4)]
    prepared = [model.preprocess(Image.fromarray(sample.pixels)) for sample in samples]
    before = [inference.low_res_logits for inference in model.infer(prepared)]
    shift_logits(model, 3.0, [sample.pixels for sample in samples])
    after = [inference.low_res_logits for inference in model.infer(prepared)]
    for one, two in zip(before, after, strict=True):
        assert one is not None
        assert two is not None
        assert 0.5 < float(np.median(two - one)) < 4.5  # four random channels hardly span a constant


def test_balanced_masks_overlap_the_truth_at_least_as_well_as_before(model: DeFakerOne) -> None:
    samples = [_sample(number) for number in range(4)]
    shift_logits(model, -4.0, [sample.pixels for sample in samples])  # now nothing is marked
    report = balance_masks(model, samples)
    assert report["shift"] > 0
    assert report["pixel_f1"] > report["pixel_f1_before"]
    found = model.detect([Image.fromarray(sample.pixels) for sample in samples])
    f1 = np.mean([overlap(d.mask > 0, s.mask > 0) for d, s in zip(found, samples, strict=True)])
    assert f1 > report["pixel_f1_before"] + 0.1


def test_pictures_made_as_a_whole_do_not_move_the_masks(model: DeFakerOne) -> None:
    sample = _sample(0)
    whole = Sample(sample.pixels, np.full_like(sample.mask, 255), True, "aigc", "whole-resynthesis", ("p",))
    with pytest.raises(ValueError, match="no forged sample with a mask"):
        balance_masks(model, [whole])
    assert balance_masks(model, [_sample(1), whole])["pictures"] == 1


def test_of_the_shifts_that_are_nearly_as_good_the_one_that_marks_least_is_taken() -> None:
    flat_top = np.interp(SHIFTS, [-3, 1, 2.5, 8], [0.05, 0.215, 0.22, 0.1])
    chosen = least_marking(flat_top)
    assert chosen == 1.0
    steep = np.exp(-((SHIFTS - 2) ** 2))
    assert least_marking(steep) == 2.0


def test_without_a_mask_to_balance_on_it_says_so(model: DeFakerOne) -> None:
    sample = _sample(0)
    empty = Sample(sample.pixels, np.zeros_like(sample.mask), False, "nature", "none", ("p",))
    with pytest.raises(ValueError, match="no forged sample with a mask"):
        balance_masks(model, [empty])
