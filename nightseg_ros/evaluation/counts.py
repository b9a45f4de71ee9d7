"""What is counted of every frame. Frames, drives and fleets are sums of it, exactly.

All accuracy in a report is a function of these sums. So merging is adding, and a resampled sum
(see `bootstrap`) gives the interval of each number by the same function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from dataclasses import fields

import cv2
import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.calibration import LEVELS
from nightseg_ros.core.calibration import area_under_risk_coverage
from nightseg_ros.core.calibration import confidence_histogram
from nightseg_ros.core.calibration import expected_calibration_error
from nightseg_ros.core.exposure import NUM_BINS
from nightseg_ros.core.exposure import OVER_EXPOSED
from nightseg_ros.core.exposure import exposure_bins
from nightseg_ros.core.exposure_f1 import exposure_confusion
from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.segmentation_score import class_iou
from nightseg_ros.core.segmentation_score import mean_iou

_SHAPES = {
    'confusion': (NUM_BINS, NUM_CLASSES, NUM_CLASSES + 1),
    'calibration': (LEVELS, 2),
    'predicted': (NUM_CLASSES + 1,),
    'confidence': (NUM_BINS, 2),
    'exposure': (3,),
    'flicker': (2,),
}

_CLASS_OF = np.minimum(np.arange(256), NUM_CLASSES).astype(np.uint8)


@dataclass(frozen=True)
class Counts:
    """Pixels of one frame, or of many, int64 arrays.

    Attributes:
        confusion: [10, 19, 20], exposure bin, truth, prediction (last: no class).
        calibration: [256, 2], by confidence: pixels with a truth, right ones.
        predicted: [20], pixels of each predicted class (last: no class), at the mask's size.
        confidence: [10, 2], by exposure bin: pixels, sum of their confidence (0..255).
        exposure: [3], pixels of known exposure, under-exposed ones, over-exposed ones.
        flicker: [2], pixels compared with the frame before, changed ones.
    """

    confusion: NDArray[np.int64]
    calibration: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.int64]
    exposure: NDArray[np.int64]
    flicker: NDArray[np.int64]

    @classmethod
    def zeros(cls) -> Counts:
        """Return counts of nothing."""
        return cls(**{name: np.zeros(shape, np.int64) for name, shape in _SHAPES.items()})

    def add(self, other: Counts) -> None:
        """Add other counts in place."""
        for field in fields(self):
            total = getattr(self, field.name)
            total += getattr(other, field.name)

    def vector(self) -> NDArray[np.int64]:
        """Return what is resampled, int64 [VECTOR_SIZE]: everything that `metrics` needs."""
        hits = np.diagonal(self.confusion, axis1=1, axis2=2).sum(axis=1)
        predicted = self.confusion[:, :, :NUM_CLASSES].sum(axis=(1, 2))
        return np.concatenate(
            [
                self.confusion.sum(axis=0).ravel(),
                hits,
                predicted,
                self.confusion.sum(axis=(1, 2)),
                self.calibration.ravel(),
                self.confidence.sum(axis=0),
                self.exposure,
                self.flicker,
            ]
        )


_PARTS = {
    'confusion': (NUM_CLASSES, NUM_CLASSES + 1),
    'hits': (NUM_BINS,),
    'predicted': (NUM_BINS,),
    'labelled': (NUM_BINS,),
    'calibration': (LEVELS, 2),
    'confidence': (2,),
    'exposure': (3,),
    'flicker': (2,),
}
VECTOR_SIZE = sum(int(np.prod(shape)) for shape in _PARTS.values())

METRICS = (
    'miou', 'accuracy', 'mef1', 'ece', 'aurc', 'flicker', 'confidence', 'under_share', 'over_share'
)  # fmt: skip
"""Numbers that are functions of the counts, 0..1 each."""


@dataclass(frozen=True)
class Metrics:
    """Numbers of one vector of counts, or of many at once; NaN where undefined.

    Attributes:
        values: by name of `METRICS`, float64 [...].
        class_iou: float64 [..., 19]; NaN for classes that occur neither in truth nor prediction.
        ef1: EF1 (micro) of each exposure bin, float64 [..., 10].
    """

    values: dict[str, NDArray[np.float64]]
    class_iou: NDArray[np.float64]
    ef1: NDArray[np.float64]


def metrics(vectors: NDArray) -> Metrics:
    """Return the numbers of count vectors [..., VECTOR_SIZE]."""
    part = _split(np.asarray(vectors, np.float64))
    confusion = part['confusion']
    in_truth = confusion.sum(axis=-1) > 0
    iou = class_iou(confusion)
    labelled = part['labelled']
    # Micro F1 with beta = 1: 2 TP / (predicted + true); NightCity, equation 2.
    ef1 = ratio(2 * part['hits'], np.where(labelled > 0, part['predicted'] + labelled, 0))
    exposed = part['exposure']
    confidence = part['confidence']
    values = {
        'miou': _mean(np.where(in_truth, iou, np.nan)),
        'accuracy': ratio(part['hits'].sum(axis=-1), labelled.sum(axis=-1)),
        'mef1': _mean(ef1),
        'ece': expected_calibration_error(part['calibration']),
        'aurc': area_under_risk_coverage(part['calibration']),
        'flicker': ratio(part['flicker'][..., 1], part['flicker'][..., 0]),
        'confidence': ratio(confidence[..., 1] / 255.0, confidence[..., 0]),
        'under_share': ratio(exposed[..., 1], exposed[..., 0]),
        'over_share': ratio(exposed[..., 2], exposed[..., 0]),
    }
    return Metrics(values, iou, ef1)


def frame_numbers(counts: Counts) -> dict[str, float]:
    """Return those of `metrics` that make sense for a single frame, faster; NaN where undefined."""
    known, under, over = counts.exposure.tolist()
    pixels, confidence = counts.confidence.sum(axis=0).tolist()
    compared, changed = counts.flicker.tolist()
    labelled, right = counts.calibration.sum(axis=0).tolist()
    return {
        'confidence': _share(confidence, 255 * pixels),
        'under_share': _share(under, known),
        'over_share': _share(over, known),
        'flicker': _share(changed, compared),
        'accuracy': _share(right, labelled),
        'miou': mean_iou(counts.confusion.sum(axis=0)) if labelled else math.nan,
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _split(vectors: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    parts, start = {}, 0
    for name, shape in _PARTS.items():
        end = start + int(np.prod(shape))
        parts[name] = vectors[..., start:end].reshape(*vectors.shape[:-1], *shape)
        start = end
    return parts


def ratio(numerator: NDArray, denominator: NDArray) -> NDArray[np.float64]:
    """Return numerator / denominator, NaN where the denominator is 0."""
    result = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=result, where=np.asarray(denominator) > 0)


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))


def count_masks(
    counts: Counts,
    labels: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    exposure_mask: NDArray[np.uint8],
    value: NDArray[np.uint8],
) -> None:
    """Count what masks say by themselves.

    Args:
        counts: of this frame; added to.
        labels: trainIds, uint8 [H, W].
        confidence: 0..255, uint8 [H, W].
        exposure_mask: 0 normal, 1 under, 2 over, 255 unknown; uint8 [H, W].
        value: V * 255 of the image at the size of the masks, uint8 [H, W].
    """
    counts.predicted[:] += _histogram(cv2.LUT(labels, _CLASS_OF), NUM_CLASSES + 1)
    joint = cv2.calcHist(
        [exposure_bins(value), confidence], [0, 1], None, [NUM_BINS, 256], [0, NUM_BINS, 0, 256]
    ).astype(np.int64)
    counts.confidence[:, 0] += joint.sum(axis=1)
    counts.confidence[:, 1] += joint @ np.arange(256)
    normal, under, over = _histogram(exposure_mask, OVER_EXPOSED + 1)
    counts.exposure[:] += (normal + under + over, under, over)


def count_truth(
    counts: Counts,
    labels: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    value: NDArray[np.uint8],
    truth: NDArray[np.uint8],
) -> None:
    """Count how masks agree with the truth; all uint8 [H, W] of the truth's size.

    Raises:
        ValueError: the truth holds something that is neither a trainId nor 255.
    """
    counts.confusion[:] += exposure_confusion(value, labels, truth)
    counts.calibration[:] += confidence_histogram(confidence, labels, truth)


def _histogram(image: NDArray[np.uint8], size: int) -> NDArray[np.int64]:
    return cv2.calcHist([image], [0], None, [size], [0, size]).ravel().astype(np.int64)
