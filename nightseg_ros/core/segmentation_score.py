"""How well masks agree with the truth: confusion matrix, intersection over union.

Intersection over union per class as in the Cityscapes benchmark (Cordts et al., 2016, section 4):
TP / (TP + FP + FN), counted over all pixels of all frames, pixels without a truth left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.labels import UNLABELLED


def confusion_matrix(
    truth: NDArray[np.uint8], prediction: NDArray[np.uint8], num_classes: int = NUM_CLASSES
) -> NDArray[np.int64]:
    """Count the pixels of each (true class, predicted class) pair.

    The matrix has one column more than rows. The last column counts the pixels that have a truth
    but whose prediction is no class (for example 255): they are missed pixels of the true class
    and false alarms of none.

    Args:
        truth: trainIds, uint8, any shape; 255 is left out.
        prediction: trainIds, uint8, same shape; everything from num_classes up means "no class".
        num_classes: K, 1..255.

    Returns:
        int64 [K, K + 1]: rows truth, columns prediction, last column "no class".

    Raises:
        ValueError: if the shapes differ, a type is not uint8, or truth holds an id in K..254.
    """
    if truth.shape != prediction.shape:
        raise ValueError(
            f'truth and prediction must have one shape, got {truth.shape} and {prediction.shape}'
        )
    if truth.dtype != np.uint8 or prediction.dtype != np.uint8:
        raise ValueError(
            f'truth and prediction must be uint8, got {truth.dtype} and {prediction.dtype}'
        )
    # Counting all 256 x 256 pairs at once needs no pixel masks, and is the fastest way in NumPy.
    pairs = (truth.astype(np.uint16) << 8) | prediction
    joint = np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256)
    strangers = np.flatnonzero(joint[num_classes:UNLABELLED].any(axis=1)) + num_classes
    if strangers.size:
        raise ValueError(
            f'truth holds {strangers.tolist()}: neither a trainId (0..{num_classes - 1}) '
            f'nor {UNLABELLED} (is it in labelIds?)'
        )
    confusion = np.empty((num_classes, num_classes + 1), np.int64)
    confusion[:, :num_classes] = joint[:num_classes, :num_classes]
    confusion[:, num_classes] = joint[:num_classes, num_classes:].sum(axis=1)
    return confusion


def class_iou(confusion: NDArray) -> NDArray[np.float64]:
    """Return the intersection over union (0..1) of each class, float64 [..., K].

    NaN where a class occurs neither in the truth nor in the prediction; 0 where it was only
    predicted, or only true.

    Args:
        confusion: [..., K, K + 1] as `confusion_matrix` counts, or [..., K, K].
    """
    classes = confusion.shape[-2]
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    union = confusion.sum(axis=-1) + confusion[..., :classes].sum(axis=-2) - hits
    iou = np.full(union.shape, np.nan)
    np.divide(hits, union, out=iou, where=union > 0)
    return iou


def mean_iou(confusion: NDArray[np.int64]) -> float:
    """Return the mean of `class_iou` over the classes of the truth (0..1); NaN if it has none.

    Classes that are only predicted have no IoU of their own: many data sets annotate fewer than
    the 19 classes. Such pixels still count as misses of the true class.
    """
    iou = class_iou(confusion)[confusion.sum(axis=1) > 0]
    return float(iou.mean()) if iou.size else float('nan')


@dataclass(frozen=True)
class SegmentationResult:
    """What a `SegmentationScore` has found.

    Attributes:
        mean_iou: 0..1, NaN if no pixel had a truth.
        class_iou: float64 [K], 0..1, NaN for classes that occur nowhere.
        support: int64 [K], pixels of each class in the truth.
    """

    mean_iou: float
    class_iou: NDArray[np.float64]
    support: NDArray[np.int64]


class SegmentationScore:
    """A confusion matrix that grows frame by frame."""

    def __init__(self, num_classes: int = NUM_CLASSES) -> None:
        """Start with no pixel counted."""
        self.confusion: NDArray[np.int64] = np.zeros((num_classes, num_classes + 1), np.int64)
        """int64 [K, K + 1], as `confusion_matrix` returns it."""

    def update(self, prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Add one frame and return the confusion of this frame alone.

        Args:
            prediction: trainIds, uint8 [H, W].
            truth: trainIds, uint8 [H, W]; 255 is left out.

        Raises:
            ValueError: as `confusion_matrix`.
        """
        added = confusion_matrix(truth, prediction, self.confusion.shape[0])
        self.confusion += added
        return added

    def merge(self, other: SegmentationScore) -> None:
        """Add everything another score has counted."""
        self.confusion += other.confusion

    def compute(self) -> SegmentationResult:
        """Return the scores over everything counted so far."""
        return SegmentationResult(
            mean_iou(self.confusion), class_iou(self.confusion), self.confusion.sum(axis=1)
        )
