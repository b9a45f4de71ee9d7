from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nightseg_ros.core.calibration import expected_calibration_error
from nightseg_ros.core.exposure_f1 import exposure_f1
from nightseg_ros.core.segmentation_score import SegmentationScore
from nightseg_ros.evaluation.counts import METRICS
from nightseg_ros.evaluation.counts import VECTOR_SIZE
from nightseg_ros.evaluation.counts import Counts
from nightseg_ros.evaluation.counts import count_masks
from nightseg_ros.evaluation.counts import count_truth
from nightseg_ros.evaluation.counts import frame_numbers
from nightseg_ros.evaluation.counts import metrics

SHAPE = (5, 8)
values = arrays(np.uint8, SHAPE)
labels = arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 3, 18, 255]))
exposures = arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 2, 255]))


@settings(max_examples=40, deadline=None)
@given(labels, values, exposures, values)
def test_masks_are_counted_pixel_by_pixel(predicted, confidence, exposure, value) -> None:
    counts = Counts.zeros()
    count_masks(counts, predicted, confidence, exposure, value)
    for train_id in range(19):
        assert counts.predicted[train_id] == (predicted == train_id).sum()
    assert counts.predicted[19] == (predicted == 255).sum()
    known = exposure != 255
    assert counts.exposure.tolist() == [
        known.sum(), (exposure == 1).sum(), (exposure == 2).sum()
    ]  # fmt: skip
    bins = np.minimum(value.astype(int) * 10 // 255, 9)
    for g in range(10):
        assert counts.confidence[g].tolist() == [
            (bins == g).sum(), confidence[bins == g].sum(dtype=int)
        ]  # fmt: skip
    now, alone = metrics(counts.vector()).values, frame_numbers(counts)
    for name in alone:
        assert alone[name] == pytest.approx(float(now[name]), nan_ok=True)
    assert now['confidence'] == pytest.approx(confidence.mean() / 255)
    assert np.isnan(now['miou'])


@settings(max_examples=40, deadline=None)
@given(labels, values, values, labels)
def test_accuracy_is_that_of_the_established_scores(predicted, confidence, value, truth) -> None:
    counts, score = Counts.zeros(), SegmentationScore()
    count_truth(counts, predicted, confidence, value, truth)
    score.update(predicted, truth)
    now = metrics(counts.vector())
    ef1 = exposure_f1(counts.confusion)
    expected = {
        'miou': score.compute().mean_iou,
        'accuracy': (predicted == truth)[truth != 255].mean() if (truth != 255).any() else np.nan,
        'mef1': ef1.mean_micro,
        'ece': float(expected_calibration_error(counts.calibration)),
    }
    for name, value_expected in expected.items():
        assert float(now.values[name]) == pytest.approx(value_expected, nan_ok=True)
    alone = frame_numbers(counts)
    for name in ('miou', 'accuracy'):
        assert alone[name] == pytest.approx(expected[name], nan_ok=True)
    np.testing.assert_allclose(now.ef1, ef1.micro)
    np.testing.assert_allclose(now.class_iou, score.compute().class_iou)


def test_counts_add_up_and_metrics_take_many_at_once() -> None:
    rng = np.random.default_rng(1)
    parts = []
    for _ in range(3):
        counts = Counts.zeros()
        predicted, truth = rng.integers(0, 19, (2, *SHAPE), dtype=np.uint8)
        confidence, value = rng.integers(0, 256, (2, *SHAPE), dtype=np.uint8)
        count_masks(counts, predicted, confidence, np.zeros(SHAPE, np.uint8), value)
        count_truth(counts, predicted, confidence, value, truth)
        parts.append(counts)
    total = Counts.zeros()
    for counts in parts:
        total.add(counts)
    vectors = np.stack([counts.vector() for counts in parts])
    assert vectors.shape == (3, VECTOR_SIZE)
    assert (total.vector() == vectors.sum(axis=0)).all()
    together = metrics(vectors)
    for name in METRICS:
        alone = [float(metrics(vector).values[name]) for vector in vectors]
        np.testing.assert_array_equal(together.values[name], alone)


def test_foreign_ids_are_refused() -> None:
    zeros = np.zeros(SHAPE, np.uint8)
    with pytest.raises(ValueError, match='33'):
        count_truth(Counts.zeros(), zeros, zeros, zeros, np.full(SHAPE, 33, np.uint8))
