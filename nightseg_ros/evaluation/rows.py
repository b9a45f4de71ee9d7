"""report.csv: a line for each frame, written as they come and read back by column."""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

COLUMNS = (
    'index', 'stamp_ns', 'received', 'latency_ms', 'age_ms', 'gap_ms', 'decode_ms',
    'preprocess_ms', 'infer_ms', 'confidence', 'under_share', 'over_share', 'dominant_class',
    'dominant_share', 'flicker', 'accuracy', 'miou', 'truth',
)  # fmt: skip
"""Of report.csv, one line a frame; empty where unknown."""

TIMES = ('latency_ms', 'age_ms', 'gap_ms', 'decode_ms', 'preprocess_ms', 'infer_ms')
"""Columns that are measured in milliseconds."""


def cells(row: Mapping[str, float], stamp_ns: int) -> Iterator[str]:
    """Yield the line of a frame.

    Args:
        row: by name of `COLUMNS`, NaN where unknown.
        stamp_ns: of the frame; a float does not hold nanoseconds.
    """
    for name in COLUMNS:
        value = row[name]
        if name == 'stamp_ns':
            yield str(stamp_ns)
        else:
            yield '' if math.isnan(value) else f'{value:.6g}'


def read_rows(path: Path) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """Return the stamps (int64 [N]) and the columns (float64 [N] each) of a report.csv.

    A last line that a full disk cut short is left out.
    """
    stamps, values = array('q'), array('d')
    place = COLUMNS.index('stamp_ns')
    with path.open(encoding='utf-8', newline='') as stream:
        lines = csv.reader(stream)
        next(lines, None)
        for line in lines:
            if len(line) == len(COLUMNS):
                stamps.append(int(line[place]))
                values.extend(float(cell) if cell else math.nan for cell in line)
    table = np.array(values).reshape(-1, len(COLUMNS))
    return np.array(stamps, np.int64), dict(zip(COLUMNS, table.T, strict=True))


def time_axis(stamps_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return seconds since the first frame, float64 [N]; NaN where the stamps do not increase."""
    if (np.diff(stamps_ns) > 0).all():
        return (stamps_ns - stamps_ns[:1]) / 1e9
    return np.full(len(stamps_ns), np.nan)
