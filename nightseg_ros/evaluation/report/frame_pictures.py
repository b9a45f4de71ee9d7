"""Pictures of one frame: where it is sure, how it is exposed, where it is wrong."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.exposure import OVER_EXPOSED
from nightseg_ros.core.exposure import UNDER_EXPOSED
from nightseg_ros.core.exposure import UNKNOWN
from nightseg_ros.core.labels import UNLABELLED

UNDER_COLOR = (64, 132, 244)
OVER_COLOR = (255, 150, 40)
UNKNOWN_COLOR = (128, 128, 128)
RIGHT_COLOR = (60, 190, 130)
WRONG_COLOR = (255, 60, 50)

_WRONG_OPACITY = 0.75
_RIGHT_OPACITY = 0.3
_UNRATED_BRIGHTNESS = 0.35


def confidence_picture(confidence: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return confidence (uint8 [H, W], 0..255) as RGB uint8 [H, W, 3], dark low, yellow high."""
    return cv2.cvtColor(cv2.applyColorMap(confidence, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)


def exposure_picture(rgb: NDArray[np.uint8], exposure: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the frame in grey with under- and over-exposed pixels coloured.

    Args:
        rgb: uint8 [H, W, 3].
        exposure: 0 normal, 1 under, 2 over, 255 unknown, uint8 [H, W].

    Returns:
        RGB uint8 [H, W, 3].
    """
    picture = _grey(rgb)
    picture[exposure == UNDER_EXPOSED] = UNDER_COLOR
    picture[exposure == OVER_EXPOSED] = OVER_COLOR
    picture[exposure == UNKNOWN] = UNKNOWN_COLOR
    return picture


def error_picture(
    rgb: NDArray[np.uint8], labels: NDArray[np.uint8], truth: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return the frame in grey: right pixels green, wrong ones red, those without truth darker.

    Args:
        rgb: uint8 [H, W, 3].
        labels: predicted trainIds, uint8 [H, W].
        truth: trainIds, 255 = not annotated, uint8 [H, W].

    Returns:
        RGB uint8 [H, W, 3].
    """
    grey = _grey(rgb)
    picture = _tinted(grey, RIGHT_COLOR, _RIGHT_OPACITY)
    wrong = labels != truth
    picture[wrong] = _tinted(grey, WRONG_COLOR, _WRONG_OPACITY)[wrong]
    unrated = truth == UNLABELLED
    picture[unrated] = cv2.convertScaleAbs(grey, alpha=_UNRATED_BRIGHTNESS)[unrated]
    return picture


def _grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _tinted(
    picture: NDArray[np.uint8], color: tuple[int, int, int], opacity: float
) -> NDArray[np.uint8]:
    tint = np.full_like(picture, color)
    return cv2.addWeighted(picture, 1.0 - opacity, tint, opacity, 0.0)
