"""Numbers about frames and their latencies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


def latency_percentiles(latencies_ms: Iterable[float]) -> dict[str, float | None]:
    """Return p50, p95, p99, max and mean in milliseconds; None each if there is no latency.

    Percentiles between two samples are interpolated linearly.
    """
    values = np.fromiter(latencies_ms, np.float64)
    if not values.size:
        return dict.fromkeys(('p50', 'p95', 'p99', 'max', 'mean'))
    p50, p95, p99 = np.percentile(values, (50, 95, 99))
    return {
        'p50': float(p50),
        'p95': float(p95),
        'p99': float(p99),
        'max': float(values.max()),
        'mean': float(values.mean()),
    }


@dataclass(frozen=True)
class FrameNumbers:
    """What is kept of every frame: a row of report.csv and a point of each time line.

    Attributes:
        index: number of the frame in the run.
        stamp_ns: its time stamp in nanoseconds.
        received: whether a mask came.
        latency_ms: stamp published to mask received.
        confidence: mean over the frame, 0..1.
        under_share: under-exposed part of the pixels whose exposure is known, 0..1.
        over_share: over-exposed part of them, 0..1.
        miou: `mean_iou` of this frame alone, 0..1. Rougher than over a run: a class of few pixels
            weighs as much as the road.
    """

    index: int
    stamp_ns: int
    received: bool
    latency_ms: float | None
    confidence: float | None
    under_share: float | None
    over_share: float | None
    miou: float | None
