"""Counts and times of the node, from which the diagnostics are made."""

from __future__ import annotations

import threading
from collections import Counter
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import NamedTuple

import numpy as np

WINDOW = 300
"""Frames over which percentiles are taken."""


class Percentiles(NamedTuple):
    """Of a stage's times, in ms."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Summary:
    """What happened so far.

    Attributes:
        received: frames that arrived.
        published: frames whose mask went out.
        dropped: frames that did not become masks, by reason.
        stages: times of each stage over the last frames.
        last_error: the newest error message, or ''.
    """

    received: int
    published: int
    dropped: Mapping[str, int]
    stages: Mapping[str, Percentiles]
    last_error: str


@dataclass
class Statistics:
    """Written by the subscription and the worker, read by the diagnostics; thread-safe."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _received: int = 0
    _published: int = 0
    _dropped: Counter = field(default_factory=Counter)
    _stages: dict[str, deque] = field(default_factory=dict)
    _last_error: str = ''

    def received(self) -> None:
        """Count a frame that arrived."""
        with self._lock:
            self._received += 1

    def dropped(self, reason: str, message: str = '') -> int:
        """Count a frame that becomes no mask; returns how often this reason occurred."""
        with self._lock:
            self._dropped[reason] += 1
            if message:
                self._last_error = message
            return self._dropped[reason]

    def published(self, stages: Mapping[str, float]) -> None:
        """Count a frame whose mask went out, with the time of each stage in ms."""
        with self._lock:
            self._published += 1
            for name, milliseconds in stages.items():
                self._stages.setdefault(name, deque(maxlen=WINDOW)).append(milliseconds)

    def summary(self) -> Summary:
        """Return a consistent copy."""
        with self._lock:
            stages = {
                name: Percentiles(*(float(p) for p in np.percentile(times, (50, 95, 99))))
                for name, times in self._stages.items()
            }
            return Summary(
                self._received, self._published, dict(self._dropped), stages, self._last_error
            )
