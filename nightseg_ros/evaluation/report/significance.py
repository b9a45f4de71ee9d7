"""Whether two bootstrapped numbers differ by more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Difference:
    """A difference and its percentile bootstrap.

    Attributes:
        low: lower end of its 95 % interval.
        high: upper end of it.
        p: two-sided p-value of no difference, above 0 and at most 1.
    """

    low: float
    high: float
    p: float


def difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> Difference | None:
    """Return interval and p-value of B - A from their bootstrap replicates.

    p is twice the smaller share of replicates on either side of zero; a replicate on zero counts
    to both. One is added above and below, as the data themselves are one of the draws, so that p
    never is 0 (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 4.2.5).

    Args:
        a: float64 [N], NaN where a replicate has no value.
        b: float64 [N]; its replicate i belongs to replicate i of A.

    Returns:
        None where fewer than half of the replicates, or none, have both values.

    Raises:
        ValueError: if the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f'A has {a.shape} replicates, B has {b.shape}: both must have as many')
    differences = b - a
    differences = differences[~np.isnan(differences)]
    count = differences.size
    if not count or 2 * count < a.size:
        return None
    low, high = np.percentile(differences, (2.5, 97.5))
    below, above = np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0)
    p = min(1.0, 2.0 * (1 + min(below, above)) / (1 + count))
    return Difference(float(low), float(high), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number, in their order (Holm 1979).

    A metric is significant at alpha where its corrected p-value is at most alpha; the chance that
    any is found so without a difference is then at most alpha, however they depend on each other.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def smallest_p(replicates: int, tests: int) -> float:
    """Return the smallest corrected p-value that so many replicates can give the first of tests."""
    return min(1.0, 2.0 * tests / (1 + replicates))
