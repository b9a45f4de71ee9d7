from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nightseg_ros.core.segmentation_score import class_iou
from nightseg_ros.core.segmentation_score import confusion_matrix
from training.data.frames import DataError
from training.uncertainty_iou import UncertaintyIoU
from training.uncertainty_iou import thresholds
from training.uncertainty_iou import uncertainty_iou

SHAPE = (4, 6)
ids = arrays(np.uint8, SHAPE, elements=st.integers(0, 18))
truths = arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 2, 18, 255]))
confidences = arrays(np.float64, SHAPE, elements=st.floats(1 / 19, 1))
masks = arrays(np.bool_, SHAPE)
frames = st.tuples(ids, confidences, truths, masks)

# One pixel each:          TP    FN/FP  TI    FI    TP invalid  ignored
TRUTH = np.array([[0, 0, 0, 0, 1, 255]], np.uint8)
PREDICTION = np.array([[0, 1, 1, 0, 1, 1]], np.uint8)
CONFIDENCE = np.array([[0.9, 0.8, 0.4, 0.3, 0.9, 0.9]])
INVALID = np.array([[False, False, True, False, True, True]])


@pytest.mark.parametrize(
    ('theta', 'expected'),
    [
        # Nothing invalid. Class 0: TP 2, FN 2. Class 1: TP 1, FP 2.
        (0.3, (2 / 4, 1 / 3)),
        # The fourth pixel is FI. Class 0: TP 1, FN 2, FI 1. Class 1 as before.
        (0.35, (1 / 4, 1 / 3)),
        # The third is TI now. Class 0: TP 1, TI 1, FN 1, FI 1. Class 1: TP 1, FP 1.
        (0.5, (2 / 4, 1 / 2)),
        # The second is FI as well. Class 0: TP 1, TI 1, FI 2. Class 1: TP 1.
        (0.85, (2 / 4, 1 / 1)),
        # Everything invalid. Class 0: TI 1, FI 3. Class 1: TI 1.
        (1.0, (1 / 4, 1 / 1)),
    ],
)
def test_hand_computed(theta: float, expected: tuple[float, float]) -> None:
    result = uncertainty_iou(PREDICTION, CONFIDENCE, TRUTH, INVALID, theta)
    assert result[:2].tolist() == pytest.approx(expected)
    assert np.isnan(result[2:]).all()


def test_sweep_is_each_threshold_and_their_mean() -> None:
    score = UncertaintyIoU(np.array([0.3, 0.5, 1.0]))
    score.update(PREDICTION, CONFIDENCE, TRUTH, INVALID)
    result = score.compute()
    assert result.mean_uiou.tolist() == pytest.approx([5 / 12, 1 / 2, 5 / 8])
    assert result.average == pytest.approx((5 / 12 + 1 / 2 + 5 / 8) / 3)
    assert result.best == pytest.approx((1.0, 5 / 8))
    assert result.invalid_share == pytest.approx(2 / 5)


def test_confidence_at_the_threshold_is_valid() -> None:
    one = np.zeros((1, 1), np.uint8)
    sure = np.full((1, 1), 0.5)
    assert uncertainty_iou(one, sure, one, np.zeros((1, 1), bool), 0.5)[0] == 1.0


def test_default_thresholds() -> None:
    theta = thresholds()
    assert theta[0] == pytest.approx(1 / 19)
    assert theta[-1] == 1.0
    assert (np.diff(theta) > 0).all()


@settings(max_examples=80, deadline=None)
@given(ids, confidences, truths, masks)
def test_at_one_over_k_it_is_plain_iou(
    prediction: np.ndarray, confidence: np.ndarray, truth: np.ndarray, invalid: np.ndarray
) -> None:
    expected = class_iou(confusion_matrix(truth, prediction))
    # float32 of a uniform softmax may round to just below 1/19: still nothing is invalid.
    rounded = (confidence - 1e-9).astype(np.float32)
    result = uncertainty_iou(prediction, rounded, truth, invalid, 1 / 19)
    np.testing.assert_allclose(result, expected)


@settings(max_examples=80, deadline=None)
@given(ids, confidences, truths, masks)
def test_all_thresholds_at_once_equal_one_by_one(
    prediction: np.ndarray, confidence: np.ndarray, truth: np.ndarray, invalid: np.ndarray
) -> None:
    score = UncertaintyIoU()
    score.update(prediction, confidence, truth, invalid)
    sweep = score.compute().class_uiou
    assert ((sweep >= 0) & (sweep <= 1) | np.isnan(sweep)).all()
    for place in (0, 7, 19):
        alone = uncertainty_iou(prediction, confidence, truth, invalid, score.theta[place])
        np.testing.assert_array_equal(sweep[place], alone)


@settings(max_examples=40, deadline=None)
@given(ids, truths, masks)
def test_knowing_what_is_invalid_never_hurts(
    prediction: np.ndarray, truth: np.ndarray, invalid: np.ndarray
) -> None:
    # The theorem of the paper: sure exactly on what is valid, UIoU is at least IoU.
    confidence = np.where(invalid, 0.2, 0.9)
    score = UncertaintyIoU(np.array([1 / 19, 0.5]))
    score.update(prediction, confidence, truth, invalid)
    plain, aware = score.compute().class_uiou
    in_truth = [c for c in range(19) if (truth == c).any()]
    assert (aware[in_truth] >= plain[in_truth] - 1e-12).all()


@settings(max_examples=40, deadline=None)
@given(frames, frames)
def test_merging_equals_counting_together(one: tuple, other: tuple) -> None:
    together, first, second = UncertaintyIoU(), UncertaintyIoU(), UncertaintyIoU()
    for score, frame in ((first, one), (second, other)):
        score.update(*frame)
        together.update(*frame)
    first.merge(second)
    np.testing.assert_array_equal(first.compute().class_uiou, together.compute().class_uiou)


def test_nothing_counted() -> None:
    result = UncertaintyIoU().compute()
    assert np.isnan(result.average)
    assert np.isnan(result.best).all()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'truth': TRUTH[:, :3]}, 'differ in size'),
        ({'truth': TRUTH + 20}, 'trainIds'),
        ({'confidence': CONFIDENCE * 65535}, '65535'),
        ({'confidence': CONFIDENCE * np.nan}, '65535'),
    ],
)
def test_refuses(change: dict, message: str) -> None:
    frame = {
        'prediction': PREDICTION, 'confidence': CONFIDENCE, 'truth': TRUTH, 'invalid': INVALID,
    }  # fmt: skip
    with pytest.raises(DataError, match=message):
        UncertaintyIoU().update(**{**frame, **change})


@pytest.mark.parametrize('theta', [[], [0.5, 0.5], [0.7, 0.2], [-0.1], [1.1]])
def test_refuses_thresholds(theta: list[float]) -> None:
    with pytest.raises(DataError, match='thresholds'):
        UncertaintyIoU(np.array(theta))


def test_refuses_to_merge_other_thresholds() -> None:
    with pytest.raises(DataError, match='same thresholds'):
        UncertaintyIoU().merge(UncertaintyIoU(np.array([0.5])))
