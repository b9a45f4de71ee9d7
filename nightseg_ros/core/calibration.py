"""Is a confidence worth its name? Calibration, and what abstaining would gain.

Expected calibration error and reliability diagram: Guo et al., "On Calibration of Modern Neural
Networks", ICML 2017. Risk-coverage curve and the area under it: Geifman and El-Yaniv, "Selective
Classification for Deep Neural Networks", NeurIPS 2017; Geifman et al., ICLR 2019.

All of it comes from one histogram: how many pixels of each confidence value have a truth, and how
many of those are right. Histograms of frames add up.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.labels import UNLABELLED

LEVELS = 256
"""Values of an 8-bit confidence."""

NUM_BINS = 15
"""Of the reliability diagram, equally wide, as Guo et al. use."""

_VALUES = np.arange(LEVELS) / (LEVELS - 1)
_BIN_STARTS = -(-np.arange(NUM_BINS) * LEVELS // NUM_BINS)


def confidence_histogram(
    confidence: NDArray[np.uint8], prediction: NDArray[np.uint8], truth: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """Count the pixels of each confidence value that have a truth, and those that are right.

    Args:
        confidence: 0..255, uint8 [H, W].
        prediction: trainIds, uint8 [H, W].
        truth: trainIds, uint8 [H, W]; 255 is left out.

    Returns:
        int64 [256, 2]: pixels with a truth, right ones among them.
    """
    labelled = cv2.compare(truth, UNLABELLED, cv2.CMP_NE)
    right = cv2.bitwise_and(cv2.compare(prediction, truth, cv2.CMP_EQ), labelled)
    columns = [
        cv2.calcHist([confidence], [0], mask, [LEVELS], [0, LEVELS]).ravel()
        for mask in (labelled, right)
    ]
    return np.stack(columns, axis=1).astype(np.int64)


@dataclass(frozen=True)
class Reliability:
    """The reliability diagram, float64 [15] each; NaN in bins without a pixel.

    Attributes:
        low, high: where each bin begins and ends, 0..1.
        confidence: mean confidence of its pixels.
        accuracy: share of them that is right.
        pixels: how many they are.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    pixels: NDArray[np.float64]


def reliability(histogram: NDArray) -> Reliability:
    """Return the reliability diagram of [256, 2] counts."""
    pixels, right, confidence = _binned(histogram)
    edges = np.append(_BIN_STARTS, LEVELS) / LEVELS
    return Reliability(
        edges[:-1], edges[1:], _ratio(confidence, pixels), _ratio(right, pixels), pixels
    )


def expected_calibration_error(histogram: NDArray) -> NDArray[np.float64]:
    """Return the mean gap between confidence and accuracy (0..1) over pixels, by bin.

    Args:
        histogram: counts [..., 256, 2].

    Returns:
        float64 [...]; NaN without a pixel.
    """
    pixels, right, confidence = _binned(histogram)
    return _ratio(np.abs(confidence - right).sum(axis=-1), pixels.sum(axis=-1))


def risk_coverage(histogram: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return which share of the pixels is kept, and which share of those is wrong.

    Point by point the pixels of the next lower confidence are kept too.

    Args:
        histogram: counts [..., 256, 2].

    Returns:
        coverage and risk, float64 [..., 256] each, 0..1; risk is NaN before the first pixel.
    """
    kept, right = np.moveaxis(np.cumsum(histogram[..., ::-1, :], axis=-2, dtype=np.float64), -1, 0)
    return _ratio(kept, kept[..., -1:]), _ratio(kept - right, kept)


def area_under_risk_coverage(histogram: NDArray) -> NDArray[np.float64]:
    """Return the mean risk over all coverages (0..1, low is good), float64 [...].

    Args:
        histogram: counts [..., 256, 2]; pixels of one confidence are kept or left together.
    """
    coverage, risk = risk_coverage(histogram)
    steps = np.diff(coverage, axis=-1, prepend=0.0)
    area = np.where(steps > 0, risk * steps, 0.0).sum(axis=-1)
    return np.where(np.isnan(coverage[..., -1]), np.nan, area)


def _binned(histogram: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Return pixels, right pixels and summed confidence of each bin, float64 [..., 15]."""
    pixels, right = np.moveaxis(np.asarray(histogram, np.float64), -1, 0)
    columns = (pixels, right, pixels * _VALUES)
    return tuple(np.add.reduceat(c, _BIN_STARTS, axis=-1) for c in columns)  # type: ignore[return-value]


def _ratio(numerator: NDArray, denominator: NDArray) -> NDArray[np.float64]:
    denominator = np.broadcast_to(denominator, np.shape(numerator))
    result = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=result, where=denominator > 0)
