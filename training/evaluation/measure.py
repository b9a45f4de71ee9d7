"""Measure a released model on frames with ground truth, exactly as the vehicle runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from nightseg_ros.core.bootstrap import Bootstrap
from nightseg_ros.core.bootstrap import interval
from nightseg_ros.core.bootstrap import unit_key
from nightseg_ros.core.calibration import LEVELS
from nightseg_ros.core.calibration import confidence_histogram
from nightseg_ros.core.calibration import expected_calibration_error
from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.labels import UNLABELLED
from nightseg_ros.core.segmentation_score import class_iou
from nightseg_ros.core.segmentation_score import confusion_matrix
from nightseg_ros.core.segmentation_score import mean_iou
from nightseg_ros.core.segmenter import Segmenter
from training.data.frames import Sample
from training.data.labelled_set import LabelledFrames

MEASURING_SETS = ('camvid_day_val', 'camvid_dusk_dev', 'night_dev')

ROAD = 0
ROAD_SET = 'motorcycle_night_dev'
"""Frames whose labels only tell road (0) from moveable (253) and not drivable (254)."""

_CONFUSION = NUM_CLASSES * (NUM_CLASSES + 1)


class Estimate(NamedTuple):
    """A number from few frames.

    Attributes:
        value: over the set.
        interval: 95 %, by bootstrap over its frames; None where it has none.
        frames: how many they are.
    """

    value: float
    interval: tuple[float, float] | None
    frames: int


class SetMeasures(NamedTuple):
    """What a model is on one set.

    Attributes:
        miou: one confusion matrix over the set, mean over the classes in the truth.
        ece: expected calibration error of its confidence, 0..1.
        class_iou: float [19], NaN where the truth has none of a class.
        support: pixels of each class in the truth, int64 [19].
        frames: name and mIoU of each frame, worst first.
    """

    miou: Estimate
    ece: Estimate
    class_iou: NDArray[np.float64]
    support: NDArray[np.int64]
    frames: list[tuple[str, float]]


def measure(segmenter: Segmenter, root: Path) -> dict[str, float]:
    """Return mIoU by measuring set, and the road IoU of the motorcycle frames.

    mIoU: one confusion matrix over the set, mean over the classes in the truth.

    Raises:
        DataError: when a set is missing or mislabelled.
    """
    results = {
        f'miou/{name}': measure_set(segmenter, root / name).miou.value for name in MEASURING_SETS
    }
    results[f'road_iou/{ROAD_SET}'] = measure_road(segmenter, root / ROAD_SET).value
    return {name: round(value, 4) for name, value in results.items()}


def measure_set(segmenter: Segmenter, folder: Path) -> SetMeasures:
    """Return what a model is on the frames of one folder.

    Raises:
        DataError: when it is missing or mislabelled.
    """
    frames = LabelledFrames(folder, cache=False)

    def count(sample: Sample) -> NDArray[np.int64]:
        masks = segmenter.segment_rgb(sample.image)
        confusion = confusion_matrix(sample.labels, masks.labels)
        histogram = confidence_histogram(masks.confidence, masks.labels, sample.labels)
        return np.concatenate([confusion.ravel(), histogram.ravel()])

    total, resampled, each = _count(frames, count)
    confusions = resampled[:, :_CONFUSION].reshape(-1, NUM_CLASSES, NUM_CLASSES + 1)
    confusion = total[:_CONFUSION].reshape(NUM_CLASSES, NUM_CLASSES + 1)
    miou = Estimate(
        mean_iou(confusion), interval(np.array([mean_iou(c) for c in confusions])), len(frames)
    )
    errors = expected_calibration_error(resampled[:, _CONFUSION:].reshape(-1, LEVELS, 2))
    ece = Estimate(
        float(expected_calibration_error(total[_CONFUSION:].reshape(LEVELS, 2))),
        interval(errors),
        len(frames),
    )
    by_frame = [
        (file.name, mean_iou(vector[:_CONFUSION].reshape(confusion.shape)))
        for file, vector in zip(frames.files, each, strict=True)
    ]
    support = confusion.sum(axis=1)
    by_class = np.where(support > 0, class_iou(confusion), np.nan)
    return SetMeasures(miou, ece, by_class, support, sorted(by_frame, key=lambda x: x[1]))


def measure_road(segmenter: Segmenter, folder: Path) -> Estimate:
    """Return the IoU of the road over the frames of the motorcycle.

    Raises:
        DataError: when the folder is missing or mislabelled.
    """
    frames = LabelledFrames(folder, cache=False, extra_labels=(253, 254))

    def count(sample: Sample) -> NDArray[np.int64]:
        counted = sample.labels != UNLABELLED
        predicted = segmenter.segment_rgb(sample.image).labels == ROAD
        truth = sample.labels == ROAD
        both, either = predicted & truth & counted, (predicted | truth) & counted
        return np.array([both.sum(), either.sum()], np.int64)

    total, resampled, _ = _count(frames, count)
    values = np.full(len(resampled), np.nan)
    np.divide(resampled[:, 0], resampled[:, 1], out=values, where=resampled[:, 1] > 0)
    return Estimate(float(total[0] / max(total[1], 1)), interval(values), len(frames))


def _count(
    frames: LabelledFrames, count: Callable[[Sample], NDArray[np.int64]]
) -> tuple[NDArray[np.int64], NDArray[np.float64], list[NDArray[np.int64]]]:
    """Return the sum of the counts of all frames, its bootstrap replicates, and those of each."""
    each = [count(frames[i]) for i in track(range(len(frames)), description=frames.root.name)]
    bootstrap = Bootstrap(each[0].size)
    for file, vector in zip(frames.files, each, strict=True):
        bootstrap.add(unit_key(file.name, 0), vector)
    return np.sum(each, axis=0), bootstrap.sums, each
