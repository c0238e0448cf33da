"""The metrics against definitions written another way: loops over pairs and pixels, and SciPy."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from worker.defakerone.evaluation.bootstrap import Estimate, draw_weights, estimate_metrics
from worker.defakerone.evaluation.localization import THRESHOLDS, measure_localization, predicted_area
from worker.defakerone.evaluation.metrics import METRICS, MeasuredImages, best_threshold, counted_images

# Few distinct values, so that ties and values that lie on a threshold are common.
heats = st.sampled_from([0.0, 0.25, 0.4999, 0.5, 0.50001, 0.75, 1.0]) | st.floats(0, 1, width=32)


@st.composite
def maps_and_masks(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=6))
    heat = draw(hnp.arrays(np.float32, shape, elements=heats.map(np.float32)))
    mask = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 1)).filter(np.any))
    return heat, mask


def pairwise_auc(positives: list[float], negatives: list[float]) -> float:
    points = [1.0 if p > n else 0.5 if p == n else 0.0 for p, n in itertools.product(positives, negatives)]
    return math.fsum(points) / len(points)


def f1_by_counting(called: list[bool], truth: list[bool]) -> float | None:
    hits = sum(c and t for c, t in zip(called, truth, strict=True))
    misses = sum(t and not c for c, t in zip(called, truth, strict=True))
    false_alarms = sum(c and not t for c, t in zip(called, truth, strict=True))
    return 2 * hits / (2 * hits + misses + false_alarms) if hits + misses + false_alarms else None


@given(maps_and_masks())
def test_one_heat_map_agrees_with_counting_pixel_by_pixel(
    pair: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]],
) -> None:
    heat, mask = pair
    found = measure_localization(heat, mask)
    truth = [bool(t) for t in mask.flat]
    for k in (0, 1, 64, 128, 192, 255, 256):
        called = [bool(h >= k / 256) for h in heat.flat]
        assert found.f1[k] == pytest.approx(f1_by_counting(called, truth), abs=1e-12)
    called = [bool(h >= 0.5) for h in heat.flat]
    union = sum(c or t for c, t in zip(called, truth, strict=True))
    both = sum(c and t for c, t in zip(called, truth, strict=True))
    assert found.iou_at_half == pytest.approx(both / union, abs=1e-12)
    assert predicted_area(heat) == sum(called) / len(called)
    if mask.all():
        assert found.auc is None
    else:
        assert found.auc == pytest.approx(pairwise_auc(list(heat[mask == 1]), list(heat[mask == 0])), abs=1e-12)


def test_the_pixel_auc_is_the_mann_whitney_statistic_at_full_size() -> None:
    random = np.random.default_rng(3)
    heat = random.random((480, 640), dtype=np.float32)
    heat[:100] = heat[:100].round(1)
    mask = np.zeros(heat.shape, np.uint8)
    mask[50:200, 30:300] = 1
    inside, outside = heat[mask == 1], heat[mask == 0]
    u = stats.mannwhitneyu(inside, outside, method="asymptotic").statistic
    assert measure_localization(heat, mask).auc == pytest.approx(u / (inside.size * outside.size), abs=1e-12)


def test_marking_every_pixel_of_an_image_with_share_f_has_f1_2f_over_1_plus_f() -> None:
    mask = np.zeros((10, 10), np.uint8)
    mask[:3, :] = 1
    found = measure_localization(np.ones((10, 10), np.float32), mask)
    assert found.f1_at_half == pytest.approx(0.6 / 1.3)
    assert found.f1[0] == found.f1_at_half
    assert found.auc == 0.5


@pytest.mark.parametrize(
    ("heat", "says"),
    [
        (np.full((2, 2), np.nan, np.float32), "lies in"),
        (np.full((2, 2), 1.01, np.float32), "lies in"),
        (np.zeros((2, 3), np.float32), "the shape"),
        (np.zeros((2, 2, 1), np.float32), "the shape"),
    ],
)
def test_a_heat_map_that_is_none_is_refused(heat: np.ndarray[Any, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        measure_localization(heat, np.ones((2, 2), np.uint8))


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="marks nothing"):
        measure_localization(np.zeros((2, 2), np.float32), np.zeros((2, 2), np.uint8))


@st.composite
def tables(draw: st.DrawFn) -> MeasuredImages:
    n = draw(st.integers(1, 12))

    def column(elements: st.SearchStrategy[Any], dtype: Any) -> np.ndarray[Any, Any]:
        return draw(hnp.arrays(dtype, n, elements=elements))

    truth = column(st.booleans(), bool)
    scores = st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]) | st.floats(0, 1)
    masked = column(st.booleans(), bool) & truth
    curves = np.full((n, 257), np.nan)
    curves[masked] = draw(hnp.arrays(float, (int(masked.sum()), 257), elements=st.floats(0, 1), fill=st.floats(0, 1)))
    areas = column(st.floats(0, 1), float)
    aucs = column(st.floats(0, 1), float)
    data_set = column(st.integers(0, 2), np.int64)
    return MeasuredImages(
        truth=truth,
        score=column(scores, float),
        probability=column(scores, float),
        abstained=column(st.booleans(), bool),
        data_set=data_set,
        scene=data_set * 100 + column(st.integers(0, 3), np.int64),
        pixel_f1=curves,
        pixel_auc=np.where(masked, aucs, np.nan),
        false_area=np.where(truth, np.nan, areas),
    )


def mean_of(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def by_definition(images: MeasuredImages) -> dict[str, float | None]:
    """Every metric again, from its textbook definition, one image at a time."""
    rows = range(len(images))
    truth = [bool(t) for t in images.truth]
    called = [bool(s >= 0.5) for s in images.score]
    fakes, authentic = [i for i in rows if truth[i]], [i for i in rows if not truth[i]]
    masked = [i for i in rows if not np.isnan(images.pixel_f1[i, 0])]

    def auc(score: list[float], among: list[int]) -> tuple[float | None, int]:
        positives, negatives = [score[i] for i in among if truth[i]], [score[i] for i in among if not truth[i]]
        pairs = len(positives) * len(negatives)
        return (pairwise_auc(positives, negatives) if pairs else None), pairs

    def pooled(score: list[float]) -> float | None:
        sets = [auc(score, [i for i in rows if images.data_set[i] == code]) for code in range(3)]
        pairs = sum(n for _, n in sets)
        return sum((a or 0) * n for a, n in sets) / pairs if pairs else None

    score, probability = list(images.score), list(images.probability)
    sensitivity = mean_of([called[i] for i in fakes])
    alarms = mean_of([called[i] for i in authentic])
    curve = [mean_of([images.pixel_f1[i, k] for i in masked]) for k in range(257)]
    return {
        "image_auc": auc(score, list(rows))[0],
        "image_auc_pooled": pooled(score),
        "probability_auc": auc(probability, list(rows))[0],
        "probability_auc_pooled": pooled(probability),
        "accuracy": mean_of([called[i] == truth[i] for i in rows]),
        "balanced_accuracy": None if sensitivity is None or alarms is None else (sensitivity + 1 - alarms) / 2,
        "image_f1": f1_by_counting(called, truth),
        "recall": sensitivity,
        "false_positive_rate": alarms,
        "ece": error_by_bins(images),
        "abstention": mean_of([float(a) for a in images.abstained]),
        "pixel_f1": curve[128],
        "pixel_f1_best": max((v for v in curve if v is not None), default=None),
        "pixel_f1_oracle": mean_of([float(max(images.pixel_f1[i])) for i in masked]),
        "pixel_f1_all_ones": curve[0],
        "pixel_iou": mean_of([images.pixel_f1[i, 128] / (2 - images.pixel_f1[i, 128]) for i in masked]),
        "pixel_auc": mean_of([images.pixel_auc[i] for i in masked]),
        "false_area": mean_of([images.false_area[i] for i in authentic]),
    }


def error_by_bins(images: MeasuredImages) -> float:
    bins: dict[int, list[tuple[float, bool]]] = {}
    for probability, truth in zip(images.probability, images.truth, strict=True):
        bins.setdefault(min(int(probability * 15), 14), []).append((float(probability), bool(truth)))
    gaps = [
        len(members) * abs(math.fsum(p for p, _ in members) - sum(t for _, t in members)) / len(members)
        for members in bins.values()
    ]
    return math.fsum(gaps) / len(images)


@given(tables())
def test_every_metric_agrees_with_its_textbook_definition(images: MeasuredImages) -> None:
    expected = by_definition(images)
    assert set(expected) == set(METRICS)
    for name, metric in METRICS.items():
        (value,) = metric(images, np.ones((1, len(images))))
        if expected[name] is None:
            assert np.isnan(value), name
        else:
            assert value == pytest.approx(expected[name], abs=1e-9), name


@given(tables(), st.randoms(use_true_random=False))
def test_a_weight_of_two_counts_as_the_image_twice_in_every_metric(images: MeasuredImages, random: Any) -> None:
    counts = np.array([random.randint(0, 3) for _ in range(len(images))], float)
    counts[0] = 1  # an empty table is no table
    repeated = images.take(np.repeat(np.arange(len(images)), counts.astype(int)))
    for name, metric in METRICS.items():
        (weighted,) = metric(images, counts[None])
        (expanded,) = metric(repeated, np.ones((1, len(repeated))))
        assert weighted == pytest.approx(expanded, abs=1e-9, nan_ok=True), name


@given(tables())
def test_no_metric_depends_on_the_order_of_the_images(images: MeasuredImages) -> None:
    back = images.take(np.arange(len(images))[::-1])
    for name, metric in METRICS.items():
        one, other = metric(images, np.ones((1, len(images)))), metric(back, np.ones((1, len(images))))
        assert one == pytest.approx(other, abs=1e-12, nan_ok=True), name


@given(tables())
def test_each_metric_says_how_many_images_it_rests_on(images: MeasuredImages) -> None:
    rows = range(len(images))
    fakes = sum(bool(images.truth[i]) for i in rows)
    masks = sum(not np.isnan(images.pixel_f1[i, 0]) for i in rows)
    classes = [{bool(images.truth[i]) for i in rows if images.data_set[i] == code} for code in range(3)]
    expected = dict.fromkeys(METRICS, len(images)) | {
        "image_auc_pooled": sum(len(classes[int(images.data_set[i])]) == 2 for i in rows),
        "probability_auc_pooled": sum(len(classes[int(images.data_set[i])]) == 2 for i in rows),
        "recall": fakes,
        "false_positive_rate": len(images) - fakes,
        "false_area": len(images) - fakes,
    }
    expected |= dict.fromkeys((name for name in METRICS if name.startswith("pixel_")), masks)
    assert {name: counted_images(name, images).sum() for name in METRICS} == expected


def test_the_best_single_threshold_is_the_one_of_the_mean_curve() -> None:
    images = table_of_curves(np.array([np.where(THRESHOLDS <= 0.25, 0.9, 0.1), np.where(THRESHOLDS <= 0.75, 0.6, 0.2)]))
    assert best_threshold(images) == 0.0
    rising = np.where((THRESHOLDS >= 0.3) & (THRESHOLDS <= 0.5), 0.8, 0.4)
    assert best_threshold(table_of_curves(rising[None])) == pytest.approx(77 / 256)
    assert best_threshold(table_of_curves(np.full((1, 257), np.nan))) is None
    flat = np.random.default_rng(0).random((82, 1)).repeat(257, axis=1)
    assert best_threshold(table_of_curves(flat)) == 0.0


def table_of_curves(curves: np.ndarray[Any, Any]) -> MeasuredImages:
    n = len(curves)
    return MeasuredImages(
        truth=np.ones(n, bool), score=np.ones(n), probability=np.ones(n), abstained=np.zeros(n, bool),
        data_set=np.zeros(n, np.int64), scene=np.arange(n), pixel_f1=curves, pixel_auc=np.full(n, 0.5),
        false_area=np.full(n, np.nan),
    )  # fmt: skip


def two_data_sets(random: np.random.Generator, n: int) -> MeasuredImages:
    truth = random.random(n) < 0.5
    scene = np.arange(n) // 2  # scenes of two images
    return MeasuredImages(
        truth=truth, score=np.clip(random.normal(0.4 + 0.2 * truth, 0.2), 0, 1), probability=random.random(n),
        abstained=np.zeros(n, bool), data_set=(scene >= n // 4).astype(np.int64), scene=scene,
        pixel_f1=np.full((n, 257), np.nan), pixel_auc=np.full(n, np.nan), false_area=np.full(n, np.nan),
    )  # fmt: skip


def test_the_bootstrap_draws_whole_scenes_and_keeps_each_data_set_s_number_of_scenes() -> None:
    images = two_data_sets(np.random.default_rng(1), 40)
    weights = np.concatenate(list(draw_weights(images, name="x", seed=5, draws=200)))
    assert weights.shape == (200, 40)
    assert np.array_equal(weights[:, 0::2], weights[:, 1::2])
    for code in (0, 1):
        assert (weights[:, images.data_set == code].sum(axis=1) == 20).all()
    assert weights.std() > 0.5


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """200 samples from a population whose accuracy is known: near 95 % of the intervals hold it."""
    random = np.random.default_rng(20)
    population = two_data_sets(random, 40_000)
    (truth,) = METRICS["accuracy"](population, np.ones((1, len(population))))
    held = 0
    for sample in range(200):
        images = two_data_sets(random, 120)
        interval = estimate_metrics(images, name=str(sample), seed=0, draws=200)["accuracy"]
        assert interval.low is not None
        assert interval.high is not None
        held += interval.low <= truth <= interval.high
    assert 0.89 <= held / 200 <= 0.99


def test_the_same_seed_and_name_draw_the_same_and_another_name_draws_otherwise() -> None:
    images = two_data_sets(np.random.default_rng(2), 60)
    first, again, other = (estimate_metrics(images, name=name, seed=9, draws=300) for name in ("a", "a", "b"))
    assert first == again
    assert first["image_auc"].value == other["image_auc"].value
    assert first["image_auc"].low != other["image_auc"].low


def test_a_single_scene_or_an_undefined_metric_gets_no_interval() -> None:
    images = two_data_sets(np.random.default_rng(2), 2)
    estimates = estimate_metrics(images, name="a", seed=9, draws=50)
    assert estimates["accuracy"].value is not None
    assert (estimates["accuracy"].low, estimates["accuracy"].high) == (None, None)
    assert estimates["pixel_f1"] == Estimate(None, None, None, 0)


def test_a_metric_that_rests_on_one_scene_of_many_gets_no_interval() -> None:
    """All draws that hold the one masked image agree on it: an interval of no width would say that it is certain."""
    images = two_data_sets(np.random.default_rng(2), 40)
    images.pixel_f1[7] = 0.25
    estimates = estimate_metrics(images, name="a", seed=9, draws=200)
    assert estimates["pixel_f1"] == Estimate(0.25, None, None, 1)
    assert estimates["image_auc"].low is not None
    images.truth[:] = np.arange(40) == 3
    estimates = estimate_metrics(images, name="a", seed=9, draws=200)
    assert (estimates["image_auc"].low, estimates["balanced_accuracy"].low) == (None, None)
    assert estimates["accuracy"].low is not None
