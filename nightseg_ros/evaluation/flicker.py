"""How much masks flicker: labels that change although the scene does not.

The previous mask is warped along the optical flow (DIS: Kroeger et al., ECCV 2016) to where its
pixels are now, and compared, as the temporal consistency of Liu et al., "Efficient Semantic Video
Segmentation with Per-frame Inference", ECCV 2020. What the flow cannot explain (uncovered,
re-lit) is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH = 256
"""The grid on which masks are compared is no wider than this, pixels."""

MIN_LENGTH = 12
"""Shorter sides than this, in pixels of the grid, have no flow."""

MAX_DIFFERENCE = 20
"""Grey values (of 255) by which a pixel may differ from where the flow says it came from."""

MAX_GAP_NS = 500_000_000
"""Frames further apart are not compared: there is too much between them."""


@dataclass(frozen=True)
class Glimpse:
    """A frame made small for comparison.

    Attributes:
        stamp_ns: of the frame.
        grey: uint8 [h, w].
        labels: trainIds, uint8 [h, w].
    """

    stamp_ns: int
    grey: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    @classmethod
    def of(cls, stamp_ns: int, image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Glimpse:
        """Return a frame made small: RGB uint8 [H, W, 3] and its mask, trainIds uint8 [H, W]."""
        step = -(-labels.shape[1] // WIDTH)
        height, width = (max(1, length // step) for length in labels.shape)
        # By whole steps: means over areas of fractional size cost eight times as much.
        grey = cv2.cvtColor(image[: height * step, : width * step], cv2.COLOR_RGB2GRAY)
        return cls(
            stamp_ns,
            cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA),
            np.ascontiguousarray(labels[step // 2 :: step, step // 2 :: step][:height, :width]),
        )


class Flicker:
    """Compares each frame with the one before it."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._previous: Glimpse | None = None
        self._grid: NDArray[np.float32] = np.empty((0, 0, 2), np.float32)

    def update(self, current: Glimpse) -> tuple[int, int]:
        """Return how many pixels could be compared with the frame before, and how many changed.

        (0, 0) for the first frame, after a gap of half a second or a jump back, where the image has
        another size than before, and where it is tiny.
        """
        previous, self._previous = self._previous, current
        if previous is None or previous.grey.shape != current.grey.shape:
            return 0, 0
        if min(current.grey.shape) < MIN_LENGTH:
            return 0, 0
        if not 0 < current.stamp_ns - previous.stamp_ns <= MAX_GAP_NS:
            return 0, 0
        if self._grid.shape[:2] != current.grey.shape:
            height, width = current.grey.shape
            self._grid = np.stack(
                np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height)), axis=-1
            ).astype(np.float32)
        # From now to then: where each pixel of now was.
        origin = self._flow.calc(current.grey, previous.grey, None)
        origin += self._grid
        grey = cv2.remap(previous.grey, origin, None, cv2.INTER_LINEAR)
        labels = cv2.remap(previous.labels, origin, None, cv2.INTER_NEAREST)
        inside = cv2.remap(
            np.full_like(previous.grey, 255), origin, None, cv2.INTER_NEAREST, borderValue=0
        )
        same_place = cv2.compare(cv2.absdiff(grey, current.grey), MAX_DIFFERENCE, cv2.CMP_LE)
        valid = cv2.bitwise_and(same_place, inside)
        changed = cv2.bitwise_and(cv2.compare(labels, current.labels, cv2.CMP_NE), valid)
        return cv2.countNonZero(valid), cv2.countNonZero(changed)
