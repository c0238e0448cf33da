"""From pictures to verdicts and masks: batches change nothing, sizes come back, disagreement is said."""

import io
import random

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.unit.defakerone.conftest import DEVICE, FIXTURE, PHOTOS, expected, photo
from tests.unit.defakerone.test_images import STORED, with_orientation
from worker.defakerone import DeFakerOne
from worker.defakerone.batching import chunks, group_rows
from worker.defakerone.calibration import Calibration
from worker.defakerone.errors import DetectorError, InferenceError
from worker.defakerone.guard import FeatureGuard, Guard
from worker.defakerone.images import load_image
from worker.defakerone.prompt import PromptConfig
from worker.defakerone.settings import MaskMode
from worker.defakerone.verdict import Detection


def unlike_images() -> list[Image.Image]:
    """Seven images of unlike sizes and tile counts, 1 to 13."""
    coffee, face = photo("landscape"), photo("portrait")
    sizes = [(112, 112), (37, 300), (640, 80)]
    crops = [coffee.crop((50, 30, 350, 330)), face.crop((0, 0, 360, 150))]
    return [coffee, face, *crops, *(coffee.resize(size) for size in sizes)]


def iou(a: Detection, b: Detection) -> float:
    union = int((a.mask | b.mask).sum())
    return 1.0 if union == 0 else int((a.mask & b.mask).sum()) / union


def test_detection_equals_the_reference(model: DeFakerOne) -> None:
    for name, detection in zip(PHOTOS, model.detect([photo(name) for name in PHOTOS]), strict=True):
        arrays = expected(name)
        height, width = arrays["image_hw"].tolist()
        assert detection.score == pytest.approx(float(arrays["s_tamper"]), abs=1e-4)
        assert detection.label == ("fake" if arrays["s_tamper"] >= 0.5 else "authentic")
        assert detection.probability is None
        reference = np.unpackbits(arrays["final_mask_bits_B"])[: height * width].reshape(height, width)
        assert int((detection.mask != reference).sum()) <= 30
        assert detection.mask.dtype == np.uint8
        assert set(np.unique(detection.mask)) <= {0, 1}
        np.testing.assert_array_equal(detection.mask == 1, detection.heatmap > 0.5)
        assert detection["score"] == detection.score


def test_an_image_gives_the_same_alone_in_a_batch_of_seven_and_in_another_order(model: DeFakerOne) -> None:
    images = unlike_images()
    assert len({len(model.preprocess(image).tiles_u8) for image in images}) >= 5
    alone = [model.detect([image])[0] for image in images]
    order = list(range(len(images)))
    seed = 7
    random.Random(seed).shuffle(order)
    shuffled = dict(zip(order, model.detect([images[index] for index in order]), strict=True))
    padded = model.with_settings(padding_share=0.9, vision_chunk=5, grounding_chunk=3).detect(images)
    for index, single in enumerate(alone):
        for other in (model.detect(images)[index], shuffled[index], padded[index]):
            assert other.score == pytest.approx(single.score, abs=1e-4)
            assert iou(other, single) >= 0.999
            assert other.label == single.label


def test_an_empty_batch_gives_nothing(model: DeFakerOne) -> None:
    assert model.detect([]) == []


def test_the_three_steps_give_what_detect_gives(model: DeFakerOne) -> None:
    prepared = model.preprocess(photo("portrait"))
    detection = model.finish(prepared, model.infer([prepared])[0])
    assert detection.score == model.detect([photo("portrait")])[0].score
    tiles, square, size = prepared
    assert (tiles.shape, square.shape, size) == ((13, 3, 112, 112), (1, 3, 256, 256), (480, 360))


def test_several_segmentation_tokens_unite_their_masks(model: DeFakerOne) -> None:
    one = model.detect([photo("landscape")])[0]
    both = model.with_metadata(prompt=PromptConfig(suffix="[SEG] and [SEG]")).detect([photo("landscape")])[0]
    assert (both.mask >= one.mask).all()
    assert both.score == pytest.approx(one.score, abs=1e-4)


def test_mask_modes_decide_which_images_are_localized(model: DeFakerOne) -> None:
    images = [photo(name) for name in PHOTOS]  # scores 0.05 and 0.97
    above = model.with_settings(mask_mode=MaskMode.parse("above=0.5")).detect(images)
    always, never = model.detect(images), model.with_settings(mask_mode=MaskMode.parse("never")).detect(images)
    assert iou(above[1], always[1]) == 1.0
    for skipped, size in ((above[0], (400, 600)), (never[0], (400, 600)), (never[1], (480, 360))):
        assert skipped.mask.shape == skipped.heatmap.shape == size
        assert not skipped.mask.any()
        assert not skipped.heatmap.any()
        assert skipped.extent == "unlocalized"
        assert "localization_skipped" in skipped.reasons
        assert not skipped.mask_verdict_conflict
    assert [d.score for d in never] == pytest.approx([d.score for d in always], abs=1e-6)


@pytest.mark.parametrize("text", ["sometimes", "above=2", "above=-1", "above=", ""])
def test_an_unknown_mask_mode_is_refused(text: str) -> None:
    with pytest.raises(DetectorError, match="always, never or above=X"):
        MaskMode.parse(text)


@pytest.mark.parametrize("text", ["always", "never", "above=0.25"])
def test_mask_modes_read_back_what_they_print(text: str) -> None:
    assert str(MaskMode.parse(text)) == text


def test_a_calibration_gives_a_probability_and_says_where_it_disagrees(model: DeFakerOne) -> None:
    lenient = model.with_metadata(calibration=Calibration(id="t1", kind="temperature", temperature=2.0, bias=-3.0))
    fake = lenient.detect([photo("portrait")])[0]
    assert fake.calibration_id == "t1"
    assert fake.probability == pytest.approx(1 / (1 + np.exp(-(np.log(fake.score / (1 - fake.score)) / 2 - 3))))
    assert fake.label == "fake"
    assert "calibration_disagrees" in fake.reasons


def test_a_guard_makes_the_label_inconclusive_and_leaves_score_and_mask(model: DeFakerOne) -> None:
    plain = model.detect([photo("portrait")])[0]
    for guard, reason in [
        (Guard(id="g", min_side=400), "too_small"),
        (Guard(id="g", uncertain=(0.9, 0.99)), "uncertain_score"),
        (Guard(id="g", feature=far_away(model)), "out_of_domain"),
    ]:
        guarded = model.with_metadata(guard=guard).detect([photo("portrait")])[0]
        assert guarded.label == "inconclusive"
        assert guarded.reasons[0] == reason
        assert guarded.score == pytest.approx(plain.score)
        assert iou(guarded, plain) == 1.0


def far_away(model: DeFakerOne) -> FeatureGuard:
    states = np.random.default_rng(0).normal(100.0, 1.0, (50, model.config.language.hidden_size))
    return FeatureGuard.fit(states, directions=4, quantile=0.99)


def test_a_guard_survives_json_and_accepts_what_it_was_fitted_to() -> None:
    states = np.random.default_rng(1).normal(size=(200, 16)) * np.linspace(1, 5, 16)
    guard = Guard(id="g", min_side=3, uncertain=(0.4, 0.6), feature=FeatureGuard.fit(states, 6, 0.95))
    again = Guard.from_json(guard.to_json())
    assert again.id == "g"
    assert again.feature is not None
    refused = sum(again.feature.refuses(state) for state in states)
    assert 5 <= refused <= 15
    assert again.objections((10, 10), 0.9, states[0] + 100) == ["out_of_domain"]


def test_a_small_image_is_said_to_be_small(model: DeFakerOne) -> None:
    assert "too_small" in model.detect([Image.new("RGB", (400, 31))])[0].reasons
    assert "too_small" not in model.detect([Image.new("RGB", (400, 32))])[0].reasons


def test_numbers_that_are_not_finite_are_an_error_and_no_verdict(model: DeFakerOne) -> None:
    prepared = model.preprocess(photo("portrait"))
    inference = model.infer([prepared])[0]
    inference.word_logits[2] = np.nan
    with pytest.raises(InferenceError, match="not finite"):
        model.finish(prepared, inference)


def test_half_precision_stays_near(model: DeFakerOne) -> None:
    images = [photo(name) for name in PHOTOS]
    half = DeFakerOne.from_pretrained(FIXTURE / "checkpoint", DEVICE, torch.bfloat16)
    for a, b in zip(model.detect(images), half.detect(images), strict=True):
        assert b.score == pytest.approx(a.score, abs=0.02)
        assert float((a.mask != b.mask).mean()) < 0.02


def test_changed_weights_do_not_meet_the_old_prefix() -> None:
    model = DeFakerOne.from_pretrained(FIXTURE / "checkpoint")
    image = photo("landscape").resize((112, 112))
    before = model.detect([image])[0].score
    with torch.no_grad():
        model.network.language_model.embed_tokens.weight[model.prompt.prefix[1]].add_(1.0)
    after = model.detect([image])[0].score
    fresh = model.with_settings(vision_chunk=4).detect([image])[0].score
    assert after == pytest.approx(fresh, abs=1e-6)
    assert abs(after - before) > 1e-4


def test_warming_runs_every_tile_count(model: DeFakerOne) -> None:
    model.with_settings(mask_mode=MaskMode(None)).warm(batch_sizes=(1, 2))


sizes = st.tuples(st.integers(1, 700), st.integers(1, 700))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(size=sizes)
@example(size=(1, 1))
@example(size=(9000, 7))
@example(size=(7, 9000))
@example(size=(1, 700))
def test_masks_regions_and_shares_agree_at_any_size(model: DeFakerOne, size: tuple[int, int]) -> None:
    width, height = size
    detection = model.detect([photo("landscape").resize(size)])[0]
    assert detection.mask.shape == detection.heatmap.shape == (height, width)
    assert 0 <= detection.score <= 1
    assert np.isfinite(detection.heatmap).all()
    assert float(detection.heatmap.min()) >= 0
    assert float(detection.heatmap.max()) <= 1
    assert detection.area_fraction == pytest.approx(float(detection.mask.mean()))
    covered = 0.0
    for region in detection.regions:
        x, y, w, h = region.bbox
        assert 0 <= x < x + w <= width
        assert 0 <= y < y + h <= height
        inside = detection.heatmap[y : y + h, x : x + w]
        assert 0.5 < region.mean <= region.max <= 1
        assert region.max <= float(inside.max())
        assert region.area_fraction * width * height <= w * h + 0.5
        covered += region.area_fraction
    assert covered <= detection.area_fraction + 1e-6
    assert detection.extent == ("none" if detection.area_fraction < 1e-4 else detection.extent)


@pytest.mark.parametrize("number", STORED)
def test_masks_lie_on_upright_pixels_whatever_the_orientation(model: DeFakerOne, number: int) -> None:
    loaded = load_image(with_orientation(number, "PNG"))
    reference = load_image(with_orientation(1, "PNG"))
    detection, wanted = model.detect([loaded.image])[0], model.detect([reference.image])[0]
    assert detection.mask.shape == (loaded.image.height, loaded.image.width)
    np.testing.assert_array_equal(detection.mask, wanted.mask)
    np.testing.assert_array_equal(detection.heatmap, wanted.heatmap)


def test_exif_is_never_read_by_the_model_itself(model: DeFakerOne) -> None:
    with Image.open(io.BytesIO(with_orientation(6, "PNG"))) as turned:
        assert model.preprocess(turned).size == (turned.height, turned.width)
        assert model.detect([turned])[0].mask.shape == (turned.height, turned.width)


lengths = st.lists(st.integers(1, 60), min_size=1, max_size=20)


@settings(deadline=None, derandomize=True)
@given(rows=lengths, limit=st.integers(1, 200), share=st.floats(0, 0.9))
def test_groups_hold_every_row_once_and_keep_their_limits(rows: list[int], limit: int, share: float) -> None:
    groups = group_rows(rows, limit, share)
    assert sorted(index for group in groups for index in group.indices) == list(range(len(rows)))
    for group in groups:
        real, padded = sum(rows[index] for index in group.indices), group.length * len(group.indices)
        assert group.length == max(rows[index] for index in group.indices)
        assert len(group.indices) == 1 or (padded <= limit and padded - real <= share * padded)


def test_chunks() -> None:
    assert [(part.start, part.stop) for part in chunks(7, 3)] == [(0, 3), (3, 6), (6, 7)]
