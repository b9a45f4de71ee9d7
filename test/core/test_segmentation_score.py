from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nightseg_ros.core.segmentation_score import SegmentationScore
from nightseg_ros.core.segmentation_score import class_iou
from nightseg_ros.core.segmentation_score import confusion_matrix
from nightseg_ros.core.segmentation_score import mean_iou


def masks(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.uint8)


def test_pairs_are_counted_and_ignored_pixels_are_not() -> None:
    truth = masks([0, 0, 1], [1, 255, 2])
    prediction = masks([0, 1, 1], [1, 0, 255])
    confusion = confusion_matrix(truth, prediction, num_classes=3)
    assert confusion.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]]


def test_no_class_over_truth_is_a_miss_and_no_false_alarm() -> None:
    truth, prediction = masks([0, 0, 1, 1]), masks([0, 255, 200, 1])
    assert class_iou(confusion_matrix(truth, prediction, 2)).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ('confusion', 'expected'),
    [
        pytest.param([[3, 0], [0, 5]], 1.0, id='perfect'),
        pytest.param([[3, 1], [2, 4]], (3 / 6 + 4 / 7) / 2, id='mixed'),
        pytest.param([[3, 1, 0], [2, 4, 0], [0, 0, 0]], (3 / 6 + 4 / 7) / 2, id='absent class'),
        pytest.param([[4, 0, 4], [0, 2, 0], [0, 0, 0]], (0.5 + 1) / 2, id='only predicted'),
        pytest.param([[4, 0, 0], [0, 2, 0], [0, 3, 0]], (1 + 0.4 + 0) / 3, id='only in truth'),
        pytest.param([[0, 7], [9, 0]], 0.0, id='all wrong'),
    ],
)
def test_mean_iou_by_hand(confusion: list[list[int]], expected: float) -> None:
    assert mean_iou(np.array(confusion)) == pytest.approx(expected)


def test_nothing_seen_is_no_number() -> None:
    assert math.isnan(SegmentationScore().compute().mean_iou)


pair = hnp.arrays(np.uint8, (2, 4, 5), elements=st.sampled_from([*range(19), 255]))


@given(pair, pair)
def test_scores_merge_to_what_one_score_would_have_counted(first, second) -> None:
    one, two, whole = SegmentationScore(), SegmentationScore(), SegmentationScore()
    for score, (prediction, truth) in ((one, first), (two, second)):
        score.update(prediction, truth)
        whole.update(prediction, truth)
    one.merge(two)
    assert (one.confusion == whole.confusion).all()
    assert one.compute().support.sum() == (first[1] != 255).sum() + (second[1] != 255).sum()


@pytest.mark.parametrize(
    ('truth', 'prediction', 'message'),
    [
        (masks([0, 1]), masks([0]), 'one shape'),
        (masks([0, 33]), masks([0, 0]), 'is it in labelIds'),
        (masks([0, 1]).astype(int), masks([0, 0]), 'must be uint8'),
    ],
)
def test_what_cannot_be_compared_is_refused(truth, prediction, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confusion_matrix(truth, prediction)
