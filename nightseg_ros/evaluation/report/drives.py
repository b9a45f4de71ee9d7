"""The drives of a merged report, worst first."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from nightseg_ros.evaluation.report import formats
from nightseg_ros.evaluation.report import plots
from nightseg_ros.evaluation.report.formats import known
from nightseg_ros.evaluation.report.metric_table import METRICS
from nightseg_ros.evaluation.report.templating import relative_link

MAX_DRIVES = 100
"""Most drives that a page lists; the rest is in report.csv."""

_COLUMNS = ('miou', 'flicker', 'p99_ms', 'dropped_share')
_RANKED_BY = ('miou', 'flicker', 'p99_ms')


@dataclass(frozen=True)
class Cell:
    """One metric of a drive: its text, and where its dot lies among all drives, 0..1."""

    text: str
    place: float | None


@dataclass(frozen=True)
class DriveRow:
    """One row of the table of drives."""

    name: str
    link: str | None
    frames: int
    truth_frames: int
    complete: bool
    cells: tuple[Cell, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class DriveTable:
    """The worst drives.

    Attributes:
        titles: of the metrics in the cells.
        rows: worst first.
        total: number of all drives.
        ranked_by: title of the metric that decides which is worse, and which way.
    """

    titles: tuple[str, ...]
    rows: tuple[DriveRow, ...]
    total: int
    ranked_by: str


def drive_table(drives: Sequence[Mapping[str, Any]]) -> DriveTable:
    """Return the worst drives by mIoU; by flicker or p99 latency where no drive has a truth.

    Drives of which nothing was evaluated come first: that is worse than any mIoU. Those for which
    the deciding metric is not known come last.
    """
    ranking = _ranking(drives)
    higher = METRICS[ranking].better == 'higher'
    names = [n for n in _COLUMNS if any(known(d['metrics'].get(n)) for d in drives)]
    largest = {n: max(d['metrics'][n] for d in drives if known(d['metrics'].get(n))) for n in names}

    def badness(drive: Mapping[str, Any]) -> tuple[int, float, str]:
        value = drive['metrics'].get(ranking)
        if not drive['frames'] or drive['metrics'].get('dropped_share') == 1.0:
            return 0, 0.0, drive['name']
        if not known(value):
            return 2, 0.0, drive['name']
        return 1, value if higher else -value, drive['name']

    return DriveTable(
        titles=tuple(METRICS[n].title for n in names),
        rows=tuple(_row(d, names, largest) for d in sorted(drives, key=badness)[:MAX_DRIVES]),
        total=len(drives),
        ranked_by=f'{"lowest" if higher else "highest"} {METRICS[ranking].title}',
    )


def drive_plot(drives: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Return the dot plot of all drives; None where fewer than two have any of its metrics."""
    shown = []
    for name in _RANKED_BY:
        found = [d['metrics'].get(name) for d in drives if known(d['metrics'].get(name))]
        if len(found) > 1:
            metric = METRICS[name]
            unit = ' [ms]' if metric.format is formats.MILLISECONDS else ''
            shown.append((metric.title + unit, np.array(found), metric.better == 'higher'))
    return plots.drive_ranks(shown) if shown else None


def _ranking(drives: Sequence[Mapping[str, Any]]) -> str:
    for name in _RANKED_BY:
        if any(known(drive['metrics'].get(name)) for drive in drives):
            return name
    return _RANKED_BY[0]


def _row(drive: Mapping[str, Any], names: Sequence[str], largest: Mapping[str, float]) -> DriveRow:
    folder = drive['folder']
    return DriveRow(
        name=drive['name'],
        link=None if folder is None else relative_link(f'{folder.rstrip("/")}/report.html'),
        frames=drive['frames'],
        truth_frames=drive['truth_frames'],
        complete=drive['complete'],
        cells=tuple(_cell(drive['metrics'].get(name), name, largest[name]) for name in names),
        problems=tuple(drive['problems']),
    )


def _cell(value: float | None, name: str, largest: float) -> Cell:
    text = METRICS[name].format(value)
    if value is None or not known(value) or largest <= 0:
        return Cell(text, None)
    # A share is drawn on its whole range, everything else up to the largest of all drives.
    span = 1.0 if METRICS[name].better == 'higher' else largest
    return Cell(text, min(1.0, max(0.0, value / span)))
