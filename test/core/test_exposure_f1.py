from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nightseg_ros.core.exposure import exposure_bins
from nightseg_ros.core.exposure import value_channel
from nightseg_ros.core.exposure_f1 import BIN_NAMES
from nightseg_ros.core.exposure_f1 import ExposureF1
from nightseg_ros.core.exposure_f1 import exposure_confusion
from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.segmentation_score import confusion_matrix

SHAPE = (4, 6)
images = arrays(np.uint8, (*SHAPE, 3))
train_ids = arrays(np.uint8, SHAPE, elements=st.integers(0, NUM_CLASSES - 1))
truths = arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 2, 18, 255]))


@pytest.mark.parametrize(
    ('value', 'expected'),
    [
        (0, 0), (25, 0), (26, 1), (50, 1), (51, 2), (76, 2), (77, 3), (101, 3), (102, 4),
        (127, 4), (128, 5), (152, 5), (153, 6), (178, 6), (179, 7), (203, 7), (204, 8),
        (229, 8), (230, 9), (254, 9), (255, 9),
    ],
)  # fmt: skip
def test_bin_edges(value: int, expected: int) -> None:
    image = np.zeros((1, 1, 3), np.uint8)
    image[..., 1] = value
    assert exposure_bins(value_channel(image)).item() == expected


def test_bins_are_those_of_exact_fractions() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    exact = [min(int(Fraction(v, 255) * 10), 9) for v in range(256)]
    assert exposure_bins(value_channel(values)).ravel().tolist() == exact
    assert len(BIN_NAMES) == 10


def test_exposure_is_the_brightest_channel() -> None:
    assert exposure_bins(
        value_channel(np.array([[[10, 255, 0], [200, 20, 20]]], np.uint8))
    ).tolist() == [[9, 7]]


def test_hand_computed() -> None:
    # Dark pixels: truth 0 0 0 1, predicted 0 0 1 1. Bright ones: truth 0 255, predicted 1 0.
    image = np.zeros((1, 6, 3), np.uint8)
    image[0, 4:] = 255
    truth = np.array([[0, 0, 0, 1, 0, 255]], np.uint8)
    prediction = np.array([[0, 0, 1, 1, 1, 0]], np.uint8)
    score = ExposureF1()
    score.update(image, prediction, truth)
    result = score.compute()
    assert result.support.tolist() == [4, *[0] * 8, 1]
    assert result.micro[[0, 9]].tolist() == [0.75, 0.0]
    # Class 0: TP 2, FN 1 -> 4/5. Class 1: TP 1, FP 1 -> 2/3.
    assert result.macro[0] == pytest.approx((0.8 + 2 / 3) / 2)
    assert result.weighted[0] == pytest.approx((3 * 0.8 + 2 / 3) / 4)
    assert result.macro[9] == 0.0
    assert result.empty_bins == tuple(range(1, 9))
    assert np.isnan(result.micro[1:9]).all()
    assert result.mean_micro == pytest.approx(0.375)


def test_no_class_is_a_miss_and_no_false_alarm() -> None:
    score = ExposureF1()
    image = np.zeros((1, 2, 3), np.uint8)
    score.update(image, np.array([[0, 255]], np.uint8), np.zeros((1, 2), np.uint8))
    # TP 1, FN 1, FP 0.
    assert score.compute().micro[0] == pytest.approx(2 / 3)


def test_nothing_counted() -> None:
    result = ExposureF1().compute()
    assert np.isnan([result.mean_micro, result.mean_macro, result.mean_weighted]).all()
    assert result.empty_bins == tuple(range(10))


@settings(max_examples=60, deadline=None)
@given(train_ids, truths, st.integers(0, 255))
def test_one_bin_micro_is_pixel_accuracy(
    prediction: np.ndarray, truth: np.ndarray, value: int
) -> None:
    score = ExposureF1()
    score.update(np.full((*SHAPE, 3), value, np.uint8), prediction, truth)
    labelled = truth != 255
    if not labelled.any():
        assert np.isnan(score.compute().mean_micro)
    else:
        accuracy = (prediction == truth)[labelled].mean()
        assert score.compute().mean_micro == pytest.approx(accuracy)


@settings(max_examples=60, deadline=None)
@given(images, train_ids, truths)
def test_scores_are_shares_and_truth_scores_one(
    image: np.ndarray, prediction: np.ndarray, truth: np.ndarray
) -> None:
    score, perfect = ExposureF1(), ExposureF1()
    score.update(image, prediction, truth)
    perfect.update(image, truth, truth)
    result = score.compute()
    assert result.support.sum() == (truth != 255).sum()
    for values in (result.micro, result.macro, result.weighted):
        known = values[~np.isnan(values)]
        assert ((known >= 0) & (known <= 1)).all()
    assert np.nanmin(perfect.compute().micro, initial=1.0) == 1.0


@settings(max_examples=60, deadline=None)
@given(images, arrays(np.uint8, SHAPE), truths)
def test_the_bins_add_up_to_the_confusion_matrix(
    image: np.ndarray, prediction: np.ndarray, truth: np.ndarray
) -> None:
    counted = exposure_confusion(value_channel(image), prediction, truth)
    assert (counted.sum(axis=0) == confusion_matrix(truth, prediction)).all()


@pytest.mark.parametrize(
    ('image', 'prediction', 'truth', 'message'),
    [
        ((2, 2, 3), np.zeros((2, 2)), np.full((2, 2), 33), 'convert labelIds'),
        ((2, 3, 3), np.zeros((2, 2)), np.zeros((2, 2)), 'one size'),
        ((2, 2, 3), np.zeros((1, 2)), np.zeros((2, 2)), 'one size'),
    ],
)
def test_refuses(image: tuple, prediction: np.ndarray, truth: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExposureF1().update(
            np.zeros(image, np.uint8), prediction.astype(np.uint8), truth.astype(np.uint8)
        )
