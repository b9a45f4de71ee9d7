"""How a frame is exposed: V per pixel, ten bins, and where it is too dark or too bright to see.

Source: "Night-time Scene Parsing with a Large Real Dataset" (NightCity), sections 3 and 4.2.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

NORMAL = 0
UNDER_EXPOSED = 1
OVER_EXPOSED = 2
UNKNOWN = 255

NUM_BINS = 10

_BINS = np.minimum(np.arange(256) * NUM_BINS // 255, NUM_BINS - 1).astype(np.uint8)


@dataclass(frozen=True)
class ExposureThresholds:
    """Where exposure stops being normal, in V of [0, 1].

    Attributes:
        under: V below this is under-exposed.
        over: V above this is over-exposed.

    Raises:
        ValueError: unless 0 <= under < over <= 1.
    """

    under: float = 0.08
    over: float = 0.92

    def __post_init__(self) -> None:
        if not 0.0 <= self.under < self.over <= 1.0:
            raise ValueError(
                f'exposure thresholds must satisfy 0 <= under < over <= 1, '
                f'got under={self.under}, over={self.over}'
            )


def value_channel(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return V = max(R, G, B), uint8 [H, W] (V * 255), of uint8 [H, W, 3] in any channel order."""
    first, second, third = cv2.split(rgb)
    return cv2.max(cv2.max(first, second), third)


def exposure_mask(
    exposure: NDArray[np.uint8],
    thresholds: ExposureThresholds,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Return 0 normal, 1 under-exposed, 2 over-exposed, uint8 [H, W].

    Args:
        exposure: V * 255, uint8 [H, W].
        thresholds: where under- and over-exposure begin.
        out: written and returned instead of a new array.
    """
    return cv2.LUT(exposure, _mask_table(thresholds), dst=out)


@functools.lru_cache(maxsize=16)
def _mask_table(thresholds: ExposureThresholds) -> NDArray[np.uint8]:
    values = np.arange(256) / 255.0
    table = np.full(256, NORMAL, np.uint8)
    table[values < thresholds.under] = UNDER_EXPOSED
    table[values > thresholds.over] = OVER_EXPOSED
    return table


def exposure_bins(exposure: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the bin 0..9 of each pixel, uint8 [H, W]: ten equal bins of V, the last closed at 1.

    Args:
        exposure: V * 255, uint8 [H, W].
    """
    return cv2.LUT(exposure, _BINS)
