"""Uncertainty-aware IoU of the Dark Zurich benchmark (UIoU).

Sakaridis, Dai, Van Gool: "Guided Curriculum Model Adaptation and Uncertainty-Aware Evaluation",
ICCV 2019, section 4, and "Map-Guided Curriculum Domain Adaptation", TPAMI 2020. Regions that the
night image alone does not show were labelled with the help of the day image; those pixels have a
class and are marked invalid. A prediction whose confidence is below theta is "invalid" instead of
a class (the authors' code `soft_to_hard_prediction_with_invalid_regions`: confidence < theta).
For class c, over all pixels that have a class in the truth:

    UIoU = (TP + TI) / (TP + TI + FP + FN + FI)

    TP  true class c, predicted c               FP  other true class, predicted c
    FN  true class c, predicted another class
    TI  true class c, marked invalid, predicted invalid
    FI  true class c, not marked invalid, predicted invalid

At theta = 1/K no prediction is invalid, and UIoU is the IoU over valid and invalid pixels alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.labels import UNLABELLED
from training.data.frames import DataError

THRESHOLDS: tuple[float, ...] = tuple(np.linspace(1 / NUM_CLASSES, 1.0, 20).tolist())
"""Thetas. The papers average over [1/K, 1]; the server's own step is not published."""


@dataclass(frozen=True)
class UncertaintyIoUResult:
    """UIoU at each threshold.

    Attributes:
        thresholds: float64 [T], theta, rising.
        class_uiou: float64 [T, K], 0..1, NaN for classes that occur nowhere.
        mean_uiou: float64 [T], mean over the classes of the truth; NaN without any.
        invalid_share: share of the labelled pixels that the truth marks invalid; NaN without any.
    """

    thresholds: NDArray[np.float64]
    class_uiou: NDArray[np.float64]
    mean_uiou: NDArray[np.float64]
    invalid_share: float

    @property
    def average(self) -> float:
        """Mean of `mean_uiou` over the thresholds (the server's "Average UIoU")."""
        return float(self.mean_uiou.mean())

    @property
    def best(self) -> tuple[float, float]:
        """The threshold with the highest mean UIoU, and that UIoU; (NaN, NaN) without truth."""
        if np.isnan(self.mean_uiou).all():
            return float('nan'), float('nan')
        place = int(np.nanargmax(self.mean_uiou))
        return float(self.thresholds[place]), float(self.mean_uiou[place])


class UncertaintyIoU:
    """Counts for UIoU at many thresholds at once, growing frame by frame.

    Args:
        theta: thresholds in [0, 1], rising.
    """

    def __init__(self, theta: Sequence[float] = THRESHOLDS) -> None:
        self.theta = np.array(theta)
        self._counts = np.zeros((self.theta.size + 1, 2, NUM_CLASSES, NUM_CLASSES), np.int64)

    def update(
        self,
        prediction: NDArray[np.uint8],
        confidence: NDArray[np.floating],
        truth: NDArray[np.uint8],
        invalid: NDArray[np.bool_],
    ) -> None:
        """Add one frame.

        Args:
            prediction: most probable trainId, uint8 [H, W] in 0..K-1.
            confidence: its probability, float [H, W] in [0, 1]. Below 1/K counts as 1/K, which
                only rounding can cause.
            truth: trainIds uint8 [H, W]; 255 is left out.
            invalid: bool [H, W], what the night image alone does not show.

        Raises:
            DataError: if shapes differ or values leave their range.
        """
        shapes = {prediction.shape, confidence.shape, truth.shape, invalid.shape}
        if len(shapes) > 1:
            raise DataError(f'prediction, confidence, truth and mask differ in size: {shapes}')
        labelled = truth != UNLABELLED
        for name, ids in (('prediction', prediction), ('truth', truth)):
            if (ids[labelled] >= NUM_CLASSES).any():
                raise DataError(
                    f'{name} holds {int(ids[labelled].max())}: give trainIds 0..{NUM_CLASSES - 1}'
                )
        sure = np.maximum(confidence[labelled].astype(np.float64), 1 / NUM_CLASSES)
        if not (sure <= 1 + 1e-6).all():
            raise DataError('confidence must lie in [0, 1]: divide uint16 PNG values by 65535')
        # passed: how many thresholds the confidence reaches; it is invalid at all higher ones.
        passed = np.searchsorted(self.theta, np.minimum(sure, 1.0), side='right')
        index = passed * 2 + invalid[labelled]
        index = (index * NUM_CLASSES + truth[labelled]) * NUM_CLASSES
        counts = np.bincount(index + prediction[labelled], minlength=self._counts.size)
        self._counts += counts.reshape(self._counts.shape)

    def compute(self) -> UncertaintyIoUResult:
        """Return UIoU over everything counted so far."""
        per_class = np.stack([self._class_uiou(place) for place in range(self.theta.size)])
        in_truth = self._counts.sum(axis=(0, 1, 3)) > 0
        marked = self._counts.sum(axis=(0, 2, 3))
        return UncertaintyIoUResult(
            thresholds=self.theta,
            class_uiou=per_class,
            mean_uiou=per_class[:, in_truth].mean(axis=1)
            if in_truth.any()
            else np.full(self.theta.size, np.nan),
            invalid_share=float(marked[1] / marked.sum()) if marked.sum() else float('nan'),
        )

    def _class_uiou(self, place: int) -> NDArray[np.float64]:
        confusion = self._counts[place + 1 :].sum(axis=(0, 1))
        unsure = self._counts[: place + 1].sum(axis=(0, 3))
        false_invalid, true_invalid = unsure
        hits = np.diagonal(confusion) + true_invalid
        union = confusion.sum(axis=1) + confusion.sum(axis=0) - np.diagonal(confusion)
        union = union + true_invalid + false_invalid
        result = np.full(NUM_CLASSES, np.nan)
        return np.divide(hits, union, out=result, where=union > 0)
