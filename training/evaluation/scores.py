"""What is measured on a labelled data set: one confusion matrix over all frames, EF1 and UIoU."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.exposure_f1 import ExposureF1
from nightseg_ros.core.exposure_f1 import ExposureF1Result
from nightseg_ros.core.segmentation_score import SegmentationScore
from nightseg_ros.core.segmentation_score import class_iou
from nightseg_ros.core.segmentation_score import mean_iou
from training.data.frames import DataError
from training.data.labelled_set import LabelledSet
from training.evaluation.protocol import EvaluationProtocol
from training.evaluation.protocol import Predictor
from training.evaluation.protocol import in_words
from training.evaluation.protocol import predict_frame
from training.evaluation.uncertainty_iou import UncertaintyIoU
from training.evaluation.uncertainty_iou import UncertaintyIoUResult


@dataclass(frozen=True)
class FrameScore:
    """One frame: its place in the set, its name, mIoU over its own classes (0..1 or NaN)."""

    index: int
    name: str
    miou: float


def ranked(frames: Iterable[FrameScore]) -> list[FrameScore]:
    """Return the frames that have a truth, worst mIoU first."""
    return sorted((f for f in frames if not np.isnan(f.miou)), key=lambda f: f.miou)


@dataclass(frozen=True)
class Evaluation:
    """What was measured on a data set.

    Attributes:
        confusion: int64 [19, 19], rows truth, columns prediction, over all frames.
        frames: every frame in order.
        exposure: EF1 per exposure bin.
        uncertainty: UIoU, where the data set says what is invalid; else None.
        protocol: how it was predicted.
        sizes: sizes "HEIGHTxWIDTH" of the labels, at which they were compared.
    """

    confusion: NDArray[np.int64]
    frames: tuple[FrameScore, ...]
    exposure: ExposureF1Result
    uncertainty: UncertaintyIoUResult | None
    protocol: EvaluationProtocol
    sizes: tuple[str, ...]

    @property
    def support(self) -> NDArray[np.int64]:
        """Pixels of each class in the truth, int64 [19]."""
        return self.confusion.sum(axis=1)

    @property
    def class_iou(self) -> NDArray[np.float64]:
        """IoU (0..1) of each class, float64 [19]; NaN for those that are not in the truth."""
        return np.where(self.support > 0, class_iou(self.confusion), np.nan)

    @property
    def mean_iou(self) -> float:
        """Mean IoU (0..1) over the classes of the truth; NaN without any."""
        return mean_iou(self.confusion)


def evaluate_method(
    method: Predictor,
    dataset: LabelledSet,
    protocol: EvaluationProtocol | None = None,
    indices: Iterable[int] | None = None,
) -> Evaluation:
    """Predict every frame and compare it with its label.

    Args:
        method: in eval mode.
        dataset: with ``invalid_mask(index)`` (bool [H, W] or None) where it knows what is invalid.
        protocol: how to predict; the papers' when not given.
        indices: frames to evaluate; all when not given. A progress bar can go here.

    Raises:
        DataError: for labels that are no trainIds, masks of another size, or nothing to evaluate.
    """
    protocol = protocol or EvaluationProtocol()
    invalid_mask = getattr(dataset, 'invalid_mask', lambda index: None)
    score, exposure, uncertainty = SegmentationScore(), ExposureF1(), UncertaintyIoU()
    frames: list[FrameScore] = []
    sizes: dict[str, None] = {}
    masks = 0
    for index in range(len(dataset)) if indices is None else indices:
        image, truth = dataset[index]
        labels, confidence = predict_frame(image, method, protocol)
        try:
            exposure.update(image, labels, truth)
        except ValueError as error:
            raise DataError(str(error)) from error
        miou = mean_iou(score.update(labels, truth))
        invalid = invalid_mask(index)
        if invalid is not None:
            masks += 1
            uncertainty.update(labels, confidence, truth, invalid)
        frames.append(FrameScore(index, dataset.files[index].name, miou))
        sizes[in_words(truth.shape)] = None
    if not frames:
        raise DataError('the data set holds no frame: check its root')
    if 0 < masks < len(frames):
        raise DataError(
            f'only {masks} of {len(frames)} frames have a mask of what is invalid: unpack all'
        )
    return Evaluation(
        # Every pixel is predicted as some class: the column "no class" is empty.
        score.confusion[:, :-1],
        tuple(frames),
        exposure.compute(),
        uncertainty.compute() if masks else None,
        protocol,
        tuple(sizes),
    )
