"""Counts and times of one camera, from which the diagnostics are made."""

from __future__ import annotations

import threading
from collections import Counter
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from nightseg_ros.core.health import Health

WINDOW = 300
"""Frames over which percentiles are taken."""

HEALTH_WINDOW = 30
"""Frames over which the health of the output is averaged."""


class Percentiles(NamedTuple):
    """Of a stage's times, in ms."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Summary:
    """What happened since the last reset.

    Attributes:
        received: frames that arrived.
        published: frames whose mask went out.
        dropped: frames that did not become masks, by reason.
        stages: times of each stage over the last frames.
        health: of the last frames' masks.
        last_error: the newest error message, or ''.
        last_arrival: time.monotonic() of the last frame; None before the first.
        last_published: of the last mask, or when the camera began to be listened to.
    """

    received: int
    published: int
    dropped: Mapping[str, int]
    stages: Mapping[str, Percentiles]
    health: tuple[Health, ...]
    last_error: str
    last_arrival: float | None
    last_published: float | None


class Statistics:
    """Written by the subscription and the worker, read by the diagnostics; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_arrival: float | None = None
        self._last_published: float | None = None
        self.reset()

    def reset(self) -> None:
        """Begin to count again. How long ago something came or went stays true."""
        with self._lock:
            self._received = 0
            self._published = 0
            self._dropped: Counter[str] = Counter()
            self._stages: dict[str, deque[float]] = {}
            self._health: deque[Health] = deque(maxlen=HEALTH_WINDOW)
            self._last_error = ''

    def listening(self, now: float) -> None:
        """Count the silence of a camera that was heard before from ``now`` on."""
        with self._lock:
            if self._last_arrival is not None:
                self._last_arrival = now
            self._last_published = now

    def received(self, now: float) -> None:
        """Count a frame that arrived at ``now`` (time.monotonic())."""
        with self._lock:
            self._received += 1
            self._last_arrival = now

    def dropped(self, reason: str, message: str = '') -> int:
        """Count a frame that becomes no mask; returns how often this reason occurred."""
        with self._lock:
            self._dropped[reason] += 1
            if message:
                self._last_error = message
            return self._dropped[reason]

    def published(self, now: float, stages: Mapping[str, float], health: Health) -> None:
        """Count a frame whose mask went out at ``now``, with the time of each stage in ms."""
        with self._lock:
            self._published += 1
            self._last_published = now
            self._health.append(health)
            for name, milliseconds in stages.items():
                self._stages.setdefault(name, deque(maxlen=WINDOW)).append(milliseconds)

    def summary(self) -> Summary:
        """Return a consistent copy."""
        with self._lock:
            times = {name: list(values) for name, values in self._stages.items()}
            counted = Summary(
                received=self._received,
                published=self._published,
                dropped=dict(self._dropped),
                stages={},
                health=tuple(self._health),
                last_error=self._last_error,
                last_arrival=self._last_arrival,
                last_published=self._last_published,
            )
        # Outside the lock: the worker must not wait for a report.
        stages = {
            name: Percentiles(*(float(p) for p in np.percentile(values, (50, 95, 99))))
            for name, values in times.items()
        }
        return replace(counted, stages=stages)
