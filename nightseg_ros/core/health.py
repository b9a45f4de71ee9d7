"""Does a mask look like one? Numbers that show a network that collapsed or a camera that is blind.

Taken from each frame's masks before they go out, at the model's size: a fraction of a millisecond.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.exposure import ExposureThresholds
from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.labels import UNLABELLED

_PIXEL_VALUES = np.arange(256) / 255.0
_KNOWN_IDS = np.full(256, UNLABELLED, np.uint8)
_KNOWN_IDS[:NUM_CLASSES] = np.arange(NUM_CLASSES)


@dataclass(frozen=True)
class Health:
    """Of one frame's masks; shares are in [0, 1].

    Attributes:
        dominant_class: trainId that most pixels have; 255 where that is "unlabelled".
        dominant_share: of the pixels that have it.
        mean_confidence: in [0, 1].
        under_exposed, over_exposed: shares of the pixels.
        unknown_ids: number of pixels whose id is no class and not 255.
    """

    dominant_class: int
    dominant_share: float
    mean_confidence: float
    under_exposed: float
    over_exposed: float
    unknown_ids: int


def examine(
    labels: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    exposure: NDArray[np.uint8],
    thresholds: ExposureThresholds,
) -> Health:
    """Return the health of one frame's masks, uint8 [H, W] each (exposure: V * 255)."""
    ids, values = _histogram(labels), _histogram(exposure)
    pixels = float(labels.size)
    dominant = int(ids.argmax())
    return Health(
        dominant_class=dominant,
        dominant_share=float(ids[dominant]) / pixels,
        mean_confidence=cv2.mean(confidence)[0] / 255.0,
        under_exposed=float(values[thresholds.under > _PIXEL_VALUES].sum()) / pixels,
        over_exposed=float(values[thresholds.over < _PIXEL_VALUES].sum()) / pixels,
        unknown_ids=int(ids[NUM_CLASSES:UNLABELLED].sum()),
    )


def without_unknown_ids(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a mask in which every id that is no class is 255; itself where that is so already."""
    return labels if labels.max() < NUM_CLASSES else cv2.LUT(labels, _KNOWN_IDS)


def _histogram(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    # [256, 1] in OpenCV 4, [256] in 5.
    return cv2.calcHist([image], [0], None, [256], [0, 256]).ravel()
