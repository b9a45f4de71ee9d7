"""The few frames of a drive that a report shows: evenly spaced ones, and the worst."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nightseg_ros.evaluation.frames import EvaluatedFrame

SAMPLES = 8
WORST = 4
WIDTH = 640
"""Frames are kept no wider than this."""

Row = Mapping[str, float]
"""Numbers of a frame by the names of the report's columns; NaN where unknown."""


@dataclass(frozen=True)
class Highlight:
    """A frame that the report shows, made small, and its numbers."""

    frame: EvaluatedFrame
    row: Row


class Samples:
    """Keeps about `SAMPLES` frames that are evenly spaced over the expected number of frames."""

    def __init__(self, expected: int) -> None:
        count = min(SAMPLES, expected)
        # The middles of equal stretches, so that a mask missing at either end costs no sample.
        self._wanted = [(2 * i + 1) * expected // (2 * count) for i in range(count)]
        self._chosen: list[Highlight] = []
        self._first: Highlight | None = None

    @property
    def kept(self) -> list[Highlight]:
        """The samples, in order."""
        if self._chosen or self._first is None:
            return self._chosen
        return [self._first]

    def offer(self, row: Row, picture: Callable[[], EvaluatedFrame]) -> None:
        """Keep a frame if it is wanted."""
        # A frame without a mask shows little: the next one that has a mask stands in for it.
        if self._wanted and row['index'] >= self._wanted[0] and row['received']:
            self._wanted = [wanted for wanted in self._wanted if wanted > row['index']]
            self._chosen.append(_keep(picture(), row))
        elif self._first is None:
            self._first = _keep(picture(), row)


class Worst:
    """Keeps the `WORST` frames: by mIoU, or by confidence as long as no frame had a truth."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, float, Highlight]] = []
        self._by_miou = False

    @property
    def kept(self) -> list[Highlight]:
        """The worst frames, worst first."""
        return [kept for _, _, kept in sorted(self._heap, key=lambda item: (-item[0], -item[1]))]

    def offer(self, row: Row, picture: Callable[[], EvaluatedFrame]) -> None:
        """Keep a frame if it is among the worst so far."""
        if not np.isnan(row['miou']) and not self._by_miou:
            self._by_miou = True
            self._heap.clear()
        quality = row['miou'] if self._by_miou else row['confidence']
        if np.isnan(quality) or (len(self._heap) == WORST and -quality <= self._heap[0][0]):
            return
        heapq.heappush(self._heap, (-quality, -row['index'], _keep(picture(), row)))
        if len(self._heap) > WORST:
            heapq.heappop(self._heap)


def _keep(frame: EvaluatedFrame, row: Row) -> Highlight:
    """Return copies of the pictures of a frame, at most as wide as the report shows them."""
    height, width = frame.image.shape[:2]
    scale = min(1.0, WIDTH / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))

    def small(array: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
        if array is None:
            return None
        return cv2.resize(array, size, interpolation=cv2.INTER_NEAREST_EXACT)

    image = frame.image
    if scale < 1.0:
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    shrunk = dataclasses.replace(
        frame,
        image=image,
        labels=small(frame.labels),
        confidence=small(frame.confidence),
        exposure=small(frame.exposure),
        truth=small(frame.truth),
    )
    return Highlight(shrunk, row)
