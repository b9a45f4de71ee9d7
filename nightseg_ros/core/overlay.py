"""Pictures of a mask, for people."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.labels import UNLABELLED
from nightseg_ros.core.labels import colorize


def overlay(
    rgb: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    opacity: float = 0.5,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Return the frame with the palette colours of its mask laid over it; unlabelled stays clear.

    Args:
        rgb: uint8 [H, W, 3].
        labels: trainIds, uint8 [H, W].
        opacity: of the colours, 0..1.
        out: written and returned instead of a new array; may be ``rgb`` itself.
    """
    colors = colorize(labels)
    clear = labels == UNLABELLED
    if clear.any():
        colors[clear] = rgb[clear]
    return cv2.addWeighted(rgb, 1.0 - opacity, colors, opacity, 0.0, dst=out)
