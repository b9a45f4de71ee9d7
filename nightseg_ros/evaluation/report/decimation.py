"""Long lines made short enough for a page, with their extremes kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_POINTS = 2000
"""Most numbers that one line of a plot is drawn from."""


@dataclass(frozen=True)
class Envelope:
    """A line: its mean, and the band from lowest to highest around it. NaN: nothing known.

    Attributes:
        time: float64 [M].
        low, mean, high: float64 [M]; all the same where the line was short enough as it is.
        decimated: whether a point stands for several of the line.
    """

    time: NDArray[np.float64]
    low: NDArray[np.float64]
    mean: NDArray[np.float64]
    high: NDArray[np.float64]
    decimated: bool


def envelope(
    time: NDArray[np.float64], values: NDArray[np.float64], points: int = MAX_POINTS
) -> Envelope:
    """Return the line with at most this many numbers in low, mean and high together.

    Neighbours are put together by count, not by time: one stamp far off then spoils one point
    only. What is NaN counts in neither mean nor extremes.

    Args:
        time: float64 [N].
        values: float64 [N].
        points: at least 3.

    Raises:
        ValueError: if the shapes differ, or points is below 3.
    """
    if time.shape != values.shape or time.ndim != 1:
        raise ValueError(f'time is {time.shape}, values are {values.shape}: both must be [N]')
    if points < 3:
        raise ValueError(f'points must be at least 3, got {points}')
    if time.size <= points:
        return Envelope(time, values, values, values, decimated=False)
    starts = np.linspace(0, time.size, points // 3, endpoint=False).astype(np.int64)
    there = ~np.isnan(values)
    known = np.add.reduceat(there.astype(np.float64), starts)
    total = np.add.reduceat(np.where(there, values, 0.0), starts)
    mean = np.divide(total, known, out=np.full(known.shape, np.nan), where=known > 0)
    return Envelope(
        time=np.add.reduceat(time, starts) / np.diff(starts, append=time.size),
        low=np.fmin.reduceat(values, starts),
        mean=mean,
        high=np.fmax.reduceat(values, starts),
        decimated=True,
    )


def distinct_places(time: NDArray[np.float64], places: int = 1000) -> NDArray[np.float64]:
    """Return sorted times of which no two would be drawn at the same of so many places.

    Args:
        time: float64 [N] without NaN.
        places: into how many the stretch from first to last is divided.
    """
    if time.size <= places:
        return np.sort(time)
    first, last = float(time.min()), float(time.max())
    width = (last - first) / places
    if width == 0.0:
        return time[:1]
    return first + np.unique(np.floor((time - first) / width)) * width
