"""EGNet's exposure-aware F1 score (Tan et al., NightCity, IEEE TIP 2021, section 5.1).

Pixels are grouped by their own exposure V = max(R, G, B) / 255 into ten equal bins, the last one
closed at 1. EF1_g is the F1 score of bin g over the whole data set (equation 2, beta = 1), mEF1 the
mean over the bins (equation 3). The paper does not say how classes are averaged; its .88 at an
mIoU of 51.8 leaves only the micro average. Macro and support-weighted averages stand beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.labels import UNLABELLED
from training.data.frames import DataError

NUM_BINS = 10

BIN_NAMES: tuple[str, ...] = (
    *(f'[{g / NUM_BINS:.1f}, {(g + 1) / NUM_BINS:.1f})' for g in range(NUM_BINS - 1)),
    '[0.9, 1.0]',
)
"""Range of V of each bin."""


def exposure_bins(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the exposure bin of each pixel, int64 [H, W] in 0..9.

    Integers throughout: V * 10 // 255, so that 51 (V = 0.2) is in [0.2, 0.3) and no rounding of
    255 * 0.1 decides. 255 (V = 1) belongs to the last bin.

    Args:
        image: RGB uint8 [H, W, 3].
    """
    value = image.max(axis=-1).astype(np.int64)
    return np.minimum(value * NUM_BINS // 255, NUM_BINS - 1)


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
        """int64 [10, K, K + 1]: bin, truth, prediction; last column "no class"."""

    def update(
        self, image: NDArray[np.uint8], prediction: NDArray[np.uint8], truth: NDArray[np.uint8]
    ) -> None:
        """Add one frame.

        Args:
            image: RGB uint8 [H, W, 3], as the camera gave it (not relit).
            prediction: trainIds uint8 [H, W]; everything from K up means "no class".
            truth: trainIds uint8 [H, W]; 255 is left out.

        Raises:
            DataError: if sizes differ, or truth holds something that is neither trainId nor 255.
        """
        if image.shape[:2] != truth.shape or prediction.shape != truth.shape:
            raise DataError(
                f'image {image.shape[:2]}, prediction {prediction.shape} and truth {truth.shape} '
                'must have one size: resize image and prediction to the label'
            )
        foreign = np.unique(truth[(truth >= NUM_CLASSES) & (truth != UNLABELLED)])
        if foreign.size:
            raise DataError(
                f'truth holds {foreign.tolist()}: neither a trainId (0..{NUM_CLASSES - 1}) nor '
                f'{UNLABELLED}; convert labelIds to trainIds first'
            )
        labelled = truth != UNLABELLED
        index = exposure_bins(image)[labelled] * NUM_CLASSES + truth[labelled]
        index = index * (NUM_CLASSES + 1) + np.minimum(prediction[labelled], NUM_CLASSES)
        counts = np.bincount(index, minlength=self.confusion.size)
        self.confusion += counts.reshape(self.confusion.shape)

    def compute(self) -> ExposureF1Result:
        """Return EF1 of each bin over everything counted so far."""
        hits = np.diagonal(self.confusion, axis1=1, axis2=2).astype(np.float64)
        support = self.confusion.sum(axis=2)
        predicted = self.confusion[:, :, :NUM_CLASSES].sum(axis=1)
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
