"""Several drives as one: everything that is counted of them is added, exactly."""

from __future__ import annotations

import math
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.bootstrap import REPLICATES
from nightseg_ros.evaluation.counts import VECTOR_SIZE
from nightseg_ros.evaluation.counts import Counts
from nightseg_ros.evaluation.drive import DriveResult
from nightseg_ros.evaluation.highlights import SAMPLES
from nightseg_ros.evaluation.highlights import WORST
from nightseg_ros.evaluation.report.sheets import Sheet
from nightseg_ros.evaluation.rows import time_axis

_NOTHING, _NO_SUMS = Counts.zeros(), np.zeros((0, VECTOR_SIZE))


@dataclass(frozen=True)
class Together:
    """One drive or several, added up; exactly what one evaluation of all their frames counts.

    Attributes:
        counts: summed.
        sums: resampled, summed.
        drives: the results, without what was summed.
        samples, worst: frames to show, the worst of all first.
    """

    counts: Counts
    sums: NDArray[np.float64]
    drives: Sequence[DriveResult]
    samples: Sequence[Sheet]
    worst: Sequence[Sheet]


def put_together(results: Iterable[DriveResult]) -> Together:
    """Add up drives, one after the other: thousands fit into memory.

    Raises:
        ValueError: there is none.
    """
    counts, sums = Counts.zeros(), np.zeros((REPLICATES, VECTOR_SIZE))
    drives, samples, worst = list[DriveResult](), list[Sheet](), list[_RankedSheet]()
    for result in results:
        counts.add(result.counts)
        sums += result.sums
        # Of several drives the pages say which one a frame is from.
        shown = [replace(sheet, drive=result.facts.name) for sheet in result.samples]
        samples = [*samples, *shown][:SAMPLES]
        worst = sorted([*worst, *_ranked(result)], key=itemgetter(0))[:WORST]
        drives.append(replace(result, counts=_NOTHING, sums=_NO_SUMS, samples=(), worst=()))
    if not drives:
        raise ValueError('there is no drive to report')
    found = [sheet for _, sheet in worst]
    if len(drives) == 1:
        samples, found = ([replace(s, drive='') for s in sheets] for sheets in (samples, found))
    return Together(counts, sums, drives, samples, found)


_RankedSheet = tuple[tuple[bool, float], Sheet]


def _ranked(result: DriveResult) -> list[_RankedSheet]:
    """Return the worst frames of a drive; those that a truth shows to be bad come before others."""
    no_truth = not result.columns['truth'].any()
    return [
        ((no_truth, math.inf if sheet.quality is None else sheet.quality),
         replace(sheet, drive=result.facts.name))
        for sheet in result.worst
    ]  # fmt: skip


def columns_of(results: Sequence[DriveResult]) -> dict[str, NDArray[np.float64]]:
    """Return the columns of drives, one after the other, and ``time_s`` since each one's start."""
    columns = {
        name: np.concatenate([result.columns[name] for result in results])
        for name in results[0].columns
    }
    columns['time_s'] = np.concatenate([time_axis(result.stamps_ns) for result in results])
    return columns
