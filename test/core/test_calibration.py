from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nightseg_ros.core.calibration import area_under_risk_coverage
from nightseg_ros.core.calibration import confidence_histogram
from nightseg_ros.core.calibration import expected_calibration_error
from nightseg_ros.core.calibration import reliability
from nightseg_ros.core.calibration import risk_coverage

SHAPE = (4, 6)
confidences = arrays(np.uint8, SHAPE)
masks = arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 255]))
histograms = arrays(np.int64, (256, 2), elements=st.integers(0, 50)).map(
    lambda h: np.stack([h.max(axis=1), h.min(axis=1)], axis=1)
)


def histogram_of(pixels: list[tuple[int, bool]]) -> np.ndarray:
    histogram = np.zeros((256, 2), np.int64)
    for confidence, right in pixels:
        histogram[confidence] += (1, right)
    return histogram


@settings(max_examples=50, deadline=None)
@given(confidences, masks, masks)
def test_the_histogram_counts_labelled_pixels(confidence, prediction, truth) -> None:
    counted = confidence_histogram(confidence, prediction, truth)
    labelled = truth != 255
    for level in np.unique(confidence):
        here = (confidence == level) & labelled
        assert counted[level].tolist() == [here.sum(), (here & (prediction == truth)).sum()]
    assert counted[:, 0].sum() == labelled.sum()


@settings(max_examples=50, deadline=None)
@given(histograms)
def test_calibration_error_is_that_of_single_pixels(histogram) -> None:
    confidence = np.repeat(np.arange(256), histogram[:, 0])
    if not confidence.size:
        assert np.isnan(expected_calibration_error(histogram))
        return
    right = np.concatenate([np.arange(n) < r for n, r in histogram])
    bins = confidence * 15 // 256
    expected = sum(
        abs(confidence[bins == b].sum() / 255 - right[bins == b].sum()) for b in range(15)
    )
    assert expected_calibration_error(histogram) == pytest.approx(expected / confidence.size)
    assert reliability(histogram).pixels.sum() == confidence.size


def test_hand_computed() -> None:
    # Four pixels sure and right, two sure and wrong, two unsure and wrong.
    histogram = histogram_of([(255, True)] * 4 + [(255, False)] * 2 + [(0, False)] * 2)
    assert expected_calibration_error(histogram) == pytest.approx((6 - 4) / 8)
    coverage, risk = risk_coverage(histogram)
    assert coverage[[0, -1]].tolist() == [0.75, 1.0]
    assert risk[[0, -1]] == pytest.approx([2 / 6, 4 / 8])
    assert area_under_risk_coverage(histogram) == pytest.approx(0.75 * 2 / 6 + 0.25 * 4 / 8)
    found = reliability(histogram)
    assert (found.accuracy[0], found.accuracy[-1]) == (0.0, pytest.approx(4 / 6))
    assert np.isnan(found.accuracy[1:-1]).all()


@settings(max_examples=50, deadline=None)
@given(histograms)
def test_the_curve_ends_at_all_pixels_and_all_errors(histogram) -> None:
    coverage, risk = risk_coverage(histogram)
    pixels, right = histogram.sum(axis=0)
    if not pixels:
        assert np.isnan(area_under_risk_coverage(histogram))
        return
    assert (coverage[-1], risk[-1]) == (1.0, pytest.approx(1 - right / pixels))
    known = risk[~np.isnan(risk)]
    assert known.min() - 1e-12 <= area_under_risk_coverage(histogram) <= known.max() + 1e-12


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50))
def test_who_knows_their_errors_has_the_smaller_area(right: int, wrong: int) -> None:
    knows = histogram_of([(200, True)] * right + [(50, False)] * wrong)
    boasts = histogram_of([(50, True)] * right + [(200, False)] * wrong)
    assert area_under_risk_coverage(knows) < area_under_risk_coverage(boasts)


def test_many_histograms_at_once() -> None:
    single = histogram_of([(200, True), (100, False)])
    both = np.stack([single, np.zeros_like(single)])
    for function in (expected_calibration_error, area_under_risk_coverage):
        together = function(both)
        assert together[0] == function(single)
        assert np.isnan(together[1])
