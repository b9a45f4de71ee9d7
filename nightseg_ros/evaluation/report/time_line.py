"""The time line of a drive: everything that varies, over one time axis."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from matplotlib.ticker import MaxNLocator
from matplotlib.ticker import MultipleLocator
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from nightseg_ros.evaluation.report import formats
from nightseg_ros.evaluation.report.decimation import distinct_places
from nightseg_ros.evaluation.report.decimation import envelope
from nightseg_ros.evaluation.report.plots import COMPARABLE
from nightseg_ros.evaluation.report.plots import LEFT
from nightseg_ros.evaluation.report.plots import RIGHT
from nightseg_ros.evaluation.report.plots import WIDE
from nightseg_ros.evaluation.report.plots import any_known
from nightseg_ros.evaluation.report.plots import column
from nightseg_ros.evaluation.report.plots import draw_line
from nightseg_ros.evaluation.report.plots import is_wide
from nightseg_ros.evaluation.report.svg import BLUE
from nightseg_ros.evaluation.report.svg import ORANGE
from nightseg_ros.evaluation.report.svg import PAPER
from nightseg_ros.evaluation.report.svg import RED
from nightseg_ros.evaluation.report.svg import SOFT
from nightseg_ros.evaluation.report.svg import TEAL
from nightseg_ros.evaluation.report.svg import VIOLET
from nightseg_ros.evaluation.report.svg import Canvas
from nightseg_ros.evaluation.report.svg import logarithmic
from nightseg_ros.evaluation.report.svg import title

_PANEL_HEIGHT = 104
_PANEL_GAP = 42
_LEADER_HEIGHT = 40
_MINUTES = 'time since the first frame [min:s]'
_MINUTES_FROM_S = 300.0
_MAX_TICKS = 10

Rows = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Mark:
    """A frame to find again on the time line."""

    index: int
    time_s: float | None


@dataclass(frozen=True)
class _Panel:
    """One panel of the time line: its title, and the columns it shows."""

    title: str
    columns: tuple[str, ...]
    names: tuple[str, ...]
    colors: tuple[str, ...]
    percent: bool = False


_LATENCY = _Panel('Latency [ms]', ('latency_ms',), ('latency',), (BLUE,))
_QUALITY = _Panel(
    'Confidence and quality',
    ('confidence', 'accuracy', 'miou'),
    ('confidence', 'accuracy', 'mIoU'),
    (VIOLET, TEAL, BLUE),
)
_PANELS = (
    _Panel(
        'Exposure: share of the pixels',
        ('under_share', 'over_share'),
        ('too dark', 'too bright'),
        (BLUE, ORANGE),
        percent=True,
    ),
    _QUALITY,
    _Panel('Flicker', ('flicker',), ('flicker',), (TEAL,)),
)
_STAGES = _Panel(
    'Time by stage [ms]',
    ('decode_ms', 'preprocess_ms', 'infer_ms'),
    ('decode', 'preprocess', 'infer'),
    (ORANGE, TEAL, BLUE),
)


def has_time_line(rows: Rows) -> bool:
    """Return whether the rows hold anything that a time line would show."""
    return bool(_panels(rows))


def time_line(
    rows: Rows,
    samples: Sequence[Mark],
    worst: Sequence[Mark],
    interval_ms: float | None,
) -> Markup:
    """Plot exposure, confidence and quality, flicker and speed over one time axis.

    Args:
        rows: the columns of report.csv.
        samples: frames whose thumbnails stand above the plot, in equal slots from left to right;
            a line leads from each slot to the time of its frame.
        worst: frames marked by triangles.
        interval_ms: time between two frames as recorded, drawn beside the latency.
    """
    time, unit = _time_axis(rows)
    panels = _panels(rows)
    top = _LEADER_HEIGHT if samples else 0
    step = _PANEL_HEIGHT + _PANEL_GAP
    canvas = Canvas(
        WIDE, top + step * len(panels) + 36, 'Exposure, confidence and latency over time'
    )
    width = WIDE - LEFT - RIGHT
    margin = max((time[-1] - time[0]) * 0.005, 1e-3)
    begin, end = float(time[0] - margin), float(time[-1] + margin)
    dropped = distinct_places(time[column(rows, 'received') == 0])
    first: Axes | None = None
    for place, panel in enumerate(panels):
        axes = canvas.axes(LEFT, top + step * place + 34, width, _PANEL_HEIGHT, first)
        first = first or axes
        axes.set_xlim(begin, end)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        _draw_panel(axes, panel, rows, time, interval_ms)
        _mark_drops(axes, dropped, named=place == 0)
        title(axes, panel.title)
        # Only the last panel says what time it is: the axis is the same for all.
        axes.tick_params(labelbottom=place == len(panels) - 1)
    assert first is not None
    _mark_worst(first, [_place(mark, rows, time) for mark in worst])
    last = axes
    last.set_xlabel(unit)
    if unit is _MINUTES:
        last.xaxis.set_major_locator(MultipleLocator(_minute_step(end - begin)))
        last.xaxis.set_major_formatter(FuncFormatter(_minutes))
    places = [_place(mark, rows, time) for mark in samples]
    canvas.lines(
        [(LEFT + width * (i + 0.5) / len(samples), 0.0) for i in range(len(samples))],
        [(LEFT + width * (t - begin) / (end - begin), top - 4.0) for t in places],
    )
    return canvas.markup()


def _panels(rows: Rows) -> list[_Panel]:
    """Return the panels that have something to show; stages only where no latency is known."""
    speed = _LATENCY if any_known(column(rows, 'latency_ms')) else _STAGES
    return [
        panel
        for panel in (*_PANELS, speed)
        if any(any_known(column(rows, name)) for name in panel.columns)
    ]


def _time_axis(rows: Rows) -> tuple[NDArray[np.float64], str]:
    """Return where each row lies on the time axis, and what that axis is.

    Frames are numbered where their stamps do not increase: a line must not run backwards.
    """
    time = column(rows, 'time_s')
    if not (np.diff(time) > 0).all() or not np.isfinite(time).all():
        return np.arange(time.size, dtype=np.float64), 'frame (the stamps do not increase)'
    if time[-1] - time[0] > _MINUTES_FROM_S:
        return time, _MINUTES
    return time, 'seconds since the first frame'


def _place(mark: Mark, rows: Rows, time: NDArray[np.float64]) -> float:
    """Return where a frame lies on the time axis."""
    found = np.flatnonzero(column(rows, 'index') == mark.index)
    if found.size:
        return float(time[found[0]])
    return float(np.clip(mark.time_s or 0.0, time[0], time[-1]))


def _draw_panel(
    axes: Axes,
    panel: _Panel,
    rows: Rows,
    time: NDArray[np.float64],
    interval_ms: float | None,
) -> None:
    for name, label, color in zip(panel.columns, panel.names, panel.colors, strict=True):
        values = column(rows, name)
        if any_known(values):
            draw_line(axes, envelope(time, values), color, label)
    if panel is _QUALITY:
        axes.set_ylim(0, 1.04)
        axes.set_yticks([0.0, 0.25, 0.5, 0.75, 1.0])
        return
    highest = max(float(np.nanmax(column(rows, name), initial=0.0)) for name in panel.columns)
    if panel is _LATENCY and interval_ms is not None and interval_ms < COMPARABLE * highest:
        highest = max(highest, interval_ms)
        label = f'frame interval {formats.MILLISECONDS(interval_ms)}'
        axes.axhline(interval_ms, color=SOFT, lw=1.2, ls=(0, (4, 3)), label=label)
    if panel in (_LATENCY, _STAGES) and is_wide(
        np.concatenate([column(rows, name) for name in panel.columns])
    ):
        logarithmic(axes, 'y')
        return
    axes.set_ylim(0, max(highest * 1.12, 0.01))
    if panel.percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if highest > 0.04 else 1))


def _mark_drops(axes: Axes, times: NDArray[np.float64], named: bool) -> None:
    if times.size:
        axes.plot(
            times,
            np.zeros(times.size),
            '|',
            color=RED,
            ms=12,
            mew=1.6,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            label='no mask' if named else None,
        )


def _mark_worst(axes: Axes, times: Sequence[float]) -> None:
    if times:
        axes.plot(
            times,
            np.ones(len(times)),
            'v',
            color=RED,
            ms=9,
            mec=PAPER,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            label='worst frames',
        )
        title(axes, axes.get_title(loc='left'))


def _minutes(seconds: float, _: int) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes}:{rest:02d}'


def _minute_step(span_s: float) -> float:
    """Return how many seconds lie between two ticks, whole minutes or hours."""
    steps = [60.0 * minutes for minutes in (1, 2, 5, 10, 20, 30)]
    step = next((s for s in steps if span_s <= _MAX_TICKS * s), None)
    return step or 3600.0 * math.ceil(span_s / (_MAX_TICKS * 3600.0))
