"""How sure is a number that comes from one drive? Resampling its frames answers.

Poisson bootstrap (Hanley and MacGibbon, 2006; Chamandy et al., "Estimating Uncertainty for Massive
Data Streams", 2012): each replicate counts each frame Poisson(1) times, which in the limit is
drawing the frames with replacement. Frames can therefore be added one by one, in memory that does
not grow, and replicates of several drives are merged by adding them.

The counts of a frame come from a hash of its name. Two evaluations of one drive resample it alike,
so that their replicates are paired and the difference of two models has an interval of its own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

REPLICATES = 1000
CONFIDENCE_LEVEL = 0.95

_BATCH = 32
"""Frames added at once: the replicates are too many bytes to touch them for every frame."""

_TABLE_SIZE = 1 << 16


def _poisson_table() -> NDArray[np.uint8]:
    """Return Poisson(1) at the quantiles of 16 random bits."""
    mass = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(12)])
    quantiles = (np.arange(_TABLE_SIZE) + 0.5) / _TABLE_SIZE
    return np.searchsorted(mass, quantiles).astype(np.uint8)


_POISSON = _poisson_table()
_COUNTERS = np.arange(1, REPLICATES + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def unit_key(drive: str, stamp_ns: int, unit_ns: int = 0) -> int:
    """Return the key under which a frame is resampled, 64 bits.

    Args:
        drive: name of the drive.
        stamp_ns: of the frame.
        unit_ns: frames of one stretch of this length are resampled together; 0: each by itself.
    """
    unit = stamp_ns // unit_ns if unit_ns else stamp_ns
    digest = hashlib.blake2b(f'{drive}\n{unit}'.encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'little')


def weights(key: int) -> NDArray[np.uint8]:
    """Return how often each replicate counts what has this key, uint8 [1000]: Poisson(1)."""
    # SplitMix64 (Steele et al., 2014) as a random function of key and replicate.
    z = _COUNTERS + np.uint64(key)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return _POISSON[(z ^ (z >> np.uint64(31))) & np.uint64(_TABLE_SIZE - 1)]


class Bootstrap:
    """Sums of count vectors, once per replicate.

    Args:
        size: D, length of the vectors.
    """

    def __init__(self, size: int) -> None:
        # Counts below 2**53 are exact, whatever the order in which they are added.
        self._sums: NDArray[np.float64] = np.zeros((REPLICATES, size))
        self._weights: list[NDArray[np.uint8]] = []
        self._vectors: list[NDArray[np.int64]] = []

    @property
    def sums(self) -> NDArray[np.float64]:
        """Weighted sums of all vectors, float64 [1000, D]."""
        self._flush()
        return self._sums

    def add(self, key: int, vector: NDArray[np.int64]) -> None:
        """Add the counts of one frame, int64 [D], under its `unit_key`."""
        self._weights.append(weights(key))
        self._vectors.append(vector)
        if len(self._vectors) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        if not self._vectors:
            return
        vectors = np.stack(self._vectors)
        # Most classes are not there: their counts need no adding.
        used = np.flatnonzero(vectors.any(axis=0))
        self._sums[:, used] += np.stack(self._weights, axis=1).astype(np.float64) @ vectors[
            :, used
        ].astype(np.float64)
        self._weights.clear()
        self._vectors.clear()


def interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of replicates; None where fewer than half have a value.

    Args:
        values: float64 [R], NaN where a replicate has none.
    """
    known = values[~np.isnan(values)]
    if known.size < 0.5 * values.size:
        return None
    tail = (1.0 - CONFIDENCE_LEVEL) / 2.0
    low, high = np.quantile(known, (tail, 1.0 - tail))
    return float(low), float(high)


def percentile_replicates(
    values: NDArray[np.float64], keys: Sequence[int], percents: Sequence[float]
) -> NDArray[np.float64]:
    """Return percentiles of per-frame values in each replicate, float64 [P, 1000].

    Args:
        values: float64 [N], no NaN.
        keys: `unit_key` of each frame.
        percents: 0..100 each.
    """
    totals = np.zeros(REPLICATES)
    for key in keys:
        totals += weights(key)
    # The frame at which the weights add up to the share that is asked for.
    wanted = np.maximum(np.ceil(np.outer(percents, totals) / 100.0), 1.0)
    result = np.full(wanted.shape, np.nan)
    reached = np.zeros(REPLICATES)
    for index in np.argsort(values, kind='stable'):
        reached += weights(keys[index])
        result[np.isnan(result) & (reached >= wanted)] = values[index]
    return result


def mean_replicates(values: NDArray[np.float64], keys: Sequence[int]) -> NDArray[np.float64]:
    """Return the mean of per-frame values in each replicate, float64 [1000].

    Args:
        values: float64 [N], no NaN.
        keys: `unit_key` of each frame.
    """
    sums, totals = np.zeros((2, REPLICATES))
    for value, key in zip(values, keys, strict=True):
        drawn = weights(key)
        sums += value * drawn
        totals += drawn
    return np.divide(sums, totals, out=np.full(REPLICATES, np.nan), where=totals > 0)
