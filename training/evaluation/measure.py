"""Measure a released model on frames with ground truth, exactly as the vehicle runs it."""

from __future__ import annotations

from pathlib import Path

from rich.progress import track

from nightseg_ros.core.labels import UNLABELLED
from nightseg_ros.core.segmentation_score import SegmentationScore
from nightseg_ros.core.segmenter import Segmenter
from training.data.labelled_set import LabelledFrames

MEASURING_SETS = ('camvid_day_val', 'camvid_dusk_dev', 'night_dev')

ROAD = 0
ROAD_SET = 'motorcycle_night_dev'
"""Frames whose labels only tell road (0) from moveable (253) and not drivable (254)."""


def measure(segmenter: Segmenter, root: Path) -> dict[str, float]:
    """Return mIoU by measuring set, and the road IoU of the motorcycle frames.

    mIoU: one confusion matrix over the set, mean over the classes in the truth.

    Raises:
        DataError: when a set is missing or mislabelled.
    """
    results = {}
    for name in MEASURING_SETS:
        frames = LabelledFrames(root / name, cache=False)
        score = SegmentationScore()
        for index in track(range(len(frames)), description=name):
            image, labels = frames[index]
            score.update(segmenter.segment_rgb(image).labels, labels)
        results[f'miou/{name}'] = round(score.compute().mean_iou, 4)
    results[f'road_iou/{ROAD_SET}'] = round(_road_iou(segmenter, root / ROAD_SET), 4)
    return results


def _road_iou(segmenter: Segmenter, root: Path) -> float:
    frames = LabelledFrames(root, cache=False, extra_labels=(253, 254))
    intersection = union = 0
    for index in range(len(frames)):
        image, labels = frames[index]
        counted = labels != UNLABELLED
        predicted = segmenter.segment_rgb(image).labels == ROAD
        truth = labels == ROAD
        intersection += int((predicted & truth & counted).sum())
        union += int(((predicted | truth) & counted).sum())
    return intersection / max(union, 1)
