"""EGNet's exposure-aware F1 score (Tan et al., NightCity, IEEE TIP 2021, section 5.1).

Pixels are grouped by their own exposure V = max(R, G, B) / 255 into ten equal bins, the last one
closed at 1. EF1_g is the F1 score of bin g over the whole data set (equation 2, beta = 1), mEF1 the
mean over the bins (equation 3). The paper does not say how classes are averaged; its .88 at an
mIoU of 51.8 leaves only the micro average. Macro and support-weighted averages stand beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.exposure import NUM_BINS
from nightseg_ros.core.exposure import exposure_bins
from nightseg_ros.core.exposure import value_channel
from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.labels import UNLABELLED

BIN_NAMES: tuple[str, ...] = (
    *(f'[{g / NUM_BINS:.1f}, {(g + 1) / NUM_BINS:.1f})' for g in range(NUM_BINS - 1)),
    '[0.9, 1.0]',
)
"""Range of V of each bin."""

_IGNORED, _FOREIGN = NUM_CLASSES, NUM_CLASSES + 1
_TRUTH = np.full(256, _FOREIGN, np.uint8)
_TRUTH[:NUM_CLASSES] = np.arange(NUM_CLASSES)
_TRUTH[UNLABELLED] = _IGNORED
_PREDICTION = np.minimum(np.arange(256), NUM_CLASSES).astype(np.uint8)


def exposure_confusion(
    exposure: NDArray[np.uint8], prediction: NDArray[np.uint8], truth: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """Count the pixels of each (exposure bin, true class, predicted class).

    The sum over the bins is the `confusion_matrix` of ``segmentation_score``.

    Args:
        exposure: V * 255 of the image as the camera gave it (not relit), uint8 [H, W], up to 16
            million pixels.
        prediction: trainIds uint8 [H, W]; everything from K up means "no class".
        truth: trainIds uint8 [H, W]; 255 is left out.

    Returns:
        int64 [10, K, K + 1]: bin, truth, prediction; last column "no class".

    Raises:
        ValueError: if sizes differ, or truth holds something that is neither trainId nor 255.
    """
    if not exposure.shape == prediction.shape == truth.shape:
        raise ValueError(
            f'image {exposure.shape}, prediction {prediction.shape} and truth {truth.shape} '
            'must have one size: resize image and prediction to the label'
        )
    planes = [exposure_bins(exposure), cv2.LUT(truth, _TRUTH), cv2.LUT(prediction, _PREDICTION)]
    sizes = [NUM_BINS, NUM_CLASSES + 2, NUM_CLASSES + 1]
    ranges = [edge for size in sizes for edge in (0, size)]
    # Three times as fast as bincount, which wants an int64 per pixel.
    joint = cv2.calcHist(planes, [0, 1, 2], None, sizes, ranges)
    if joint[:, _FOREIGN].any():
        foreign = np.unique(truth[_TRUTH[truth] == _FOREIGN])
        raise ValueError(
            f'truth holds {foreign.tolist()}: neither a trainId (0..{NUM_CLASSES - 1}) nor '
            f'{UNLABELLED}; convert labelIds to trainIds first'
        )
    return joint[:, :NUM_CLASSES].astype(np.int64)


@dataclass(frozen=True)
class ExposureF1Result:
    """EF1 per bin, three ways of averaging over classes.

    Attributes:
        micro: float64 [10], 0..1, NaN in bins without a labelled pixel; the paper's numbers.
        macro: the same, mean over the classes of the truth in the bin.
        weighted: the same, mean over classes weighted by their pixels.
        support: int64 [10], labelled pixels of each bin.
    """

    micro: NDArray[np.float64]
    macro: NDArray[np.float64]
    weighted: NDArray[np.float64]
    support: NDArray[np.int64]

    @property
    def empty_bins(self) -> tuple[int, ...]:
        """Bins without a labelled pixel, which no mean counts."""
        return tuple(np.flatnonzero(self.support == 0).tolist())

    @property
    def mean_micro(self) -> float:
        """mEF1 (0..1) of the paper, over the bins that have pixels; NaN if none has."""
        return _mean(self.micro)

    @property
    def mean_macro(self) -> float:
        """As `mean_micro`, of the macro average."""
        return _mean(self.macro)

    @property
    def mean_weighted(self) -> float:
        """As `mean_micro`, of the support-weighted average."""
        return _mean(self.weighted)


class ExposureF1:
    """One confusion matrix per exposure bin, growing frame by frame."""

    def __init__(self) -> None:
        """Start with no pixel counted."""
        shape = (NUM_BINS, NUM_CLASSES, NUM_CLASSES + 1)
        self.confusion: NDArray[np.int64] = np.zeros(shape, np.int64)
        """int64 [10, K, K + 1], as `exposure_confusion` returns it."""

    def update(
        self, image: NDArray[np.uint8], prediction: NDArray[np.uint8], truth: NDArray[np.uint8]
    ) -> None:
        """Add one frame: an RGB image, uint8 [H, W, 3]; the rest as for `exposure_confusion`.

        Raises:
            ValueError: as `exposure_confusion`.
        """
        self.confusion += exposure_confusion(value_channel(image), prediction, truth)

    def compute(self) -> ExposureF1Result:
        """Return EF1 of each bin over everything counted so far."""
        return exposure_f1(self.confusion)


def exposure_f1(confusion: NDArray[np.int64]) -> ExposureF1Result:
    """Return EF1 of each bin.

    Args:
        confusion: int64 [10, K, K + 1] of `exposure_confusion`, over any number of frames.
    """
    hits = np.diagonal(confusion, axis1=1, axis2=2).astype(np.float64)
    support = confusion.sum(axis=2)
    predicted = confusion[:, :, :NUM_CLASSES].sum(axis=1)
    in_truth = support > 0
    # With beta = 1, equation 2 is 2 TP / (2 TP + FP + FN) = 2 TP / (predicted + true).
    class_f1 = np.where(in_truth, _ratio(2 * hits, predicted + support), 0.0)
    pixels = support.sum(axis=1)
    return ExposureF1Result(
        micro=_ratio(2 * hits.sum(axis=1), predicted.sum(axis=1) + pixels, pixels > 0),
        macro=_ratio(class_f1.sum(axis=1), in_truth.sum(axis=1)),
        weighted=_ratio((class_f1 * support).sum(axis=1), pixels),
        support=pixels,
    )


def _ratio(
    numerator: NDArray, denominator: NDArray, defined: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    result = np.full(numerator.shape, np.nan)
    where = denominator > 0 if defined is None else defined
    return np.divide(numerator, denominator, out=result, where=where)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float('nan')
