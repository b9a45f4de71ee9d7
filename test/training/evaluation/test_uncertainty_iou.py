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
from training.evaluation.uncertainty_iou import THRESHOLDS
from training.evaluation.uncertainty_iou import UncertaintyIoU

SHAPE = (4, 6)
ids = arrays(np.uint8, SHAPE, elements=st.integers(0, 18))
truths = arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 2, 18, 255]))
confidences = arrays(np.float64, SHAPE, elements=st.floats(1 / 19, 1))
masks = arrays(np.bool_, SHAPE)

# One pixel each:          TP    FN/FP  TI    FI    TP invalid  ignored
TRUTH = np.array([[0, 0, 0, 0, 1, 255]], np.uint8)
PREDICTION = np.array([[0, 1, 1, 0, 1, 1]], np.uint8)
CONFIDENCE = np.array([[0.9, 0.8, 0.4, 0.3, 0.9, 0.9]])
INVALID = np.array([[False, False, True, False, True, True]])


def uncertainty_iou(theta: float, *frame: np.ndarray) -> np.ndarray:
    """Return the UIoU of each class at one threshold."""
    score = UncertaintyIoU([theta])
    score.update(*frame)
    return score.compute().class_uiou[0]


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
    result = uncertainty_iou(theta, PREDICTION, CONFIDENCE, TRUTH, INVALID)
    assert result[:2].tolist() == pytest.approx(expected)
    assert np.isnan(result[2:]).all()


def test_sweep_is_each_threshold_and_their_mean() -> None:
    score = UncertaintyIoU([0.3, 0.5, 1.0])
    score.update(PREDICTION, CONFIDENCE, TRUTH, INVALID)
    result = score.compute()
    assert result.mean_uiou.tolist() == pytest.approx([5 / 12, 1 / 2, 5 / 8])
    assert result.average == pytest.approx((5 / 12 + 1 / 2 + 5 / 8) / 3)
    assert result.best == pytest.approx((1.0, 5 / 8))
    assert result.invalid_share == pytest.approx(2 / 5)


def test_confidence_at_the_threshold_is_valid() -> None:
    one = np.zeros((1, 1), np.uint8)
    sure = np.full((1, 1), 0.5)
    assert uncertainty_iou(0.5, one, sure, one, np.zeros((1, 1), bool))[0] == 1.0


def test_default_thresholds() -> None:
    assert THRESHOLDS[0] == pytest.approx(1 / 19)
    assert THRESHOLDS[-1] == 1.0
    assert (np.diff(THRESHOLDS) > 0).all()


@settings(max_examples=80, deadline=None)
@given(ids, confidences, truths, masks)
def test_at_one_over_k_it_is_plain_iou(
    prediction: np.ndarray, confidence: np.ndarray, truth: np.ndarray, invalid: np.ndarray
) -> None:
    expected = class_iou(confusion_matrix(truth, prediction))
    # float32 of a uniform softmax may round to just below 1/19: still nothing is invalid.
    rounded = (confidence - 1e-9).astype(np.float32)
    result = uncertainty_iou(1 / 19, prediction, rounded, truth, invalid)
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
        alone = uncertainty_iou(THRESHOLDS[place], prediction, confidence, truth, invalid)
        np.testing.assert_array_equal(sweep[place], alone)


@settings(max_examples=40, deadline=None)
@given(ids, truths, masks)
def test_knowing_what_is_invalid_never_hurts(
    prediction: np.ndarray, truth: np.ndarray, invalid: np.ndarray
) -> None:
    # The theorem of the paper: sure exactly on what is valid, UIoU is at least IoU.
    confidence = np.where(invalid, 0.2, 0.9)
    score = UncertaintyIoU([1 / 19, 0.5])
    score.update(prediction, confidence, truth, invalid)
    plain, aware = score.compute().class_uiou
    in_truth = [c for c in range(19) if (truth == c).any()]
    assert (aware[in_truth] >= plain[in_truth] - 1e-12).all()


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
