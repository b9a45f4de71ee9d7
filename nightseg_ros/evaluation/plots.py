"""The pictures of a report: plots over a run, and panels that show one frame.

Plots are drawn on Figure objects of their own (Agg), never through pyplot, whose figures are
global to the process. Every plot exists for a light and for a dark page.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from nightseg_ros.core.exposure import OVER_EXPOSED
from nightseg_ros.core.exposure import UNDER_EXPOSED
from nightseg_ros.core.exposure import UNKNOWN
from nightseg_ros.core.labels import NAMES
from nightseg_ros.core.labels import UNLABELLED
from nightseg_ros.evaluation.metrics import FrameNumbers

UNDER_COLOR = (64, 132, 244)
OVER_COLOR = (255, 150, 40)
UNKNOWN_COLOR = (128, 128, 128)
RIGHT_COLOR = (60, 150, 110)
WRONG_COLOR = (235, 70, 60)
UNRATED_COLOR = (40, 42, 46)

_DPI = 150
_LOG_RATIO = 15.0
"""A slowest frame this many times slower than the median puts latency on a log axis."""


@dataclass(frozen=True)
class Theme:
    """Colours of a plot, as matplotlib understands them."""

    text: str
    grid: str
    paper: str
    blue: str
    teal: str
    orange: str
    red: str


LIGHT = Theme('#3b4552', '#dde2e9', '#ffffff', '#2f6fde', '#0f8f83', '#d9731a', '#d23b3b')
DARK = Theme('#b9c3d0', '#323a45', '#1a1f26', '#6ea3ff', '#3fc7b6', '#f5a04c', '#ff7a72')


@dataclass(frozen=True)
class Plot:
    """One plot as PNG, for light and for dark pages."""

    light: bytes
    dark: bytes


@dataclass(frozen=True)
class TimeLine:
    """The numbers of a run along time; what is unknown is NaN.

    Attributes:
        time: float64 [N], seconds since the first frame, or the frame number where the stamps do
            not increase.
        unit: label of the time axis.
        received: bool [N].
        latency_ms, confidence, under_share, over_share, miou: float64 [N], as `FrameNumbers`.
    """

    time: NDArray[np.float64]
    unit: str
    received: NDArray[np.bool_]
    latency_ms: NDArray[np.float64]
    confidence: NDArray[np.float64]
    under_share: NDArray[np.float64]
    over_share: NDArray[np.float64]
    miou: NDArray[np.float64]


def time_line(rows: Sequence[FrameNumbers]) -> TimeLine:
    """Return the rows of a run as arrays."""
    stamps = np.array([row.stamp_ns for row in rows], np.int64)
    if (np.diff(stamps) > 0).all():
        time, unit = (stamps - stamps[:1]) / 1e9, 'seconds since the first frame'
    else:
        time, unit = np.arange(len(rows), dtype=np.float64), 'frame'
    return TimeLine(
        time,
        unit,
        np.array([row.received for row in rows], np.bool_),
        _column(rows, lambda row: row.latency_ms),
        _column(rows, lambda row: row.confidence),
        _column(rows, lambda row: row.under_share),
        _column(rows, lambda row: row.over_share),
        _column(rows, lambda row: row.miou),
    )


def latency_over_time(line: TimeLine, interval_ms: float) -> Plot:
    """Plot the latency of each frame; frames without a mask are ticks at the bottom.

    Args:
        line: the run.
        interval_ms: time from one published frame to the next, drawn as a line to compare with.
    """

    def draw(figure: Figure, theme: Theme) -> None:
        axes = _axes(figure, theme)
        axes.plot(line.time, line.latency_ms, color=theme.blue, **_line_style(line))
        label = f'frame interval {interval_ms:.0f} ms'
        axes.axhline(interval_ms, color=theme.text, lw=1, ls=(0, (4, 3)), label=label)
        _scale_latency(axes, line.latency_ms, upwards=True)
        _mark_drops(axes, line, theme)
        _label(axes, theme, line.unit, 'latency [ms]')

    return _render(draw)


def latency_distribution(
    latencies_ms: NDArray[np.float64], summary: Mapping[str, float | None]
) -> Plot:
    """Plot histogram and cumulative share of latencies with their percentiles.

    Args:
        latencies_ms: float64 [N], N > 0, without NaN.
        summary: `latency_percentiles` of them.
    """

    def draw(figure: Figure, theme: Theme) -> None:
        left, right = (_axes(figure, theme, place) for place in (121, 122))
        ordered = np.sort(latencies_ms)
        bins = int(np.clip(np.sqrt(ordered.size) * 2, 8, 50))
        edges: Any = bins
        if _scale_latency(left, ordered, upwards=False):
            edges = np.geomspace(ordered[0], ordered[-1], bins + 1)
        left.hist(ordered, bins=edges, color=theme.blue, alpha=0.55)
        share = np.arange(1, ordered.size + 1) / ordered.size
        right.step(ordered, share, where='post', color=theme.blue, lw=1.6)
        _scale_latency(right, ordered, upwards=False)
        right.set_ylim(0, 1.02)
        right.yaxis.set_major_formatter(PercentFormatter(1.0))
        left.yaxis.set_major_locator(MaxNLocator(integer=True))
        styles = (('p50', theme.teal, '-'), ('p95', theme.orange, '--'), ('p99', theme.red, ':'))
        for name, color, style in styles:
            for axes in (left, right):
                percentile = summary[name]
                if percentile is None:
                    continue
                label = f'{name} {percentile:.0f} ms'
                axes.axvline(percentile, color=color, ls=style, lw=1.6, label=label)
        _label(left, theme, 'latency [ms]', 'frames', legend=False)
        _label(right, theme, 'latency [ms]', 'frames at most this slow')

    return _render(draw)


def quality_over_time(line: TimeLine) -> Plot:
    """Plot mean confidence, and agreement with the truth where there is one, of each frame."""

    def draw(figure: Figure, theme: Theme) -> None:
        axes = _axes(figure, theme)
        style = _line_style(line)
        if not np.isnan(line.confidence).all():
            axes.plot(line.time, line.confidence, color=theme.blue, label='confidence', **style)
        if not np.isnan(line.miou).all():
            axes.plot(line.time, line.miou, color=theme.teal, label='mIoU', **style)
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        _mark_drops(axes, line, theme)
        _label(axes, theme, line.unit, 'mean of the frame')

    return _render(draw)


def exposure_over_time(line: TimeLine) -> Plot:
    """Plot which part of each frame is under- and over-exposed."""

    def draw(figure: Figure, theme: Theme) -> None:
        axes = _axes(figure, theme)
        style = _line_style(line)
        axes.plot(line.time, line.under_share, color=theme.blue, label='under-exposed', **style)
        axes.plot(line.time, line.over_share, color=theme.orange, label='over-exposed', **style)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        _mark_drops(axes, line, theme)
        _label(axes, theme, line.unit, 'part of the pixels')

    return _render(draw)


def class_bars(values: NDArray[np.float64], quantity: str) -> Plot:
    """Plot one bar per class.

    Args:
        values: float64 [19], 0..1; classes with NaN are left out.
        quantity: what the values are, label of the axis.
    """
    shown = np.flatnonzero(~np.isnan(values))

    def draw(figure: Figure, theme: Theme) -> None:
        axes = _axes(figure, theme)
        bars = axes.barh([NAMES[i] for i in shown], values[shown], color=theme.blue, alpha=0.75)
        texts = [f'{values[i] * 100:.1f}' for i in shown]
        axes.bar_label(bars, texts, padding=4, fontsize=8, color=theme.text)
        axes.invert_yaxis()
        axes.set_xlim(0, min(1.0, float(values[shown].max(initial=0.01)) * 1.0) * 1.12)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(axis='y', visible=False)
        _label(axes, theme, quantity, '', legend=False)

    return _render(draw, height=_rows_height(shown.size))


def confusion_plot(confusion: NDArray[np.int64]) -> Plot:
    """Plot how the pixels of each true class were predicted, each row adding up to 100 %.

    Args:
        confusion: int64 [19, 20] of `confusion_matrix`; rows without a pixel are left out, and
            columns without one that have no row.
    """
    rows = np.flatnonzero(confusion.sum(axis=1))
    columns = np.union1d(rows, np.flatnonzero(confusion.sum(axis=0)))
    shares = confusion[rows].astype(np.float64) / confusion[rows].sum(axis=1, keepdims=True)
    shares = shares[:, columns]
    names = (*NAMES, 'no class')

    def draw(figure: Figure, theme: Theme) -> None:
        axes = _axes(figure, theme)
        colors = LinearSegmentedColormap.from_list('shares', [theme.paper, theme.blue])
        axes.imshow(shares, cmap=colors, vmin=0, vmax=1, aspect='auto')
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.005:
                text = f'{share * 100:.0f}'
                axes.text(
                    column, row, text, ha='center', va='center', fontsize=7.5, color=theme.text
                )
        axes.set_xticks(range(columns.size), [names[i] for i in columns], rotation=50, ha='right')
        axes.set_yticks(range(rows.size), [names[i] for i in rows])
        axes.grid(visible=False)
        _label(axes, theme, 'predicted', 'truth', legend=False)

    return _render(draw, height=_rows_height(rows.size) + 0.9)


def confidence_picture(confidence: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return confidence (uint8 [H, W], 0..255) as RGB uint8 [H, W, 3], dark low, yellow high."""
    return cv2.cvtColor(cv2.applyColorMap(confidence, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)


def exposure_picture(rgb: NDArray[np.uint8], exposure: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the frame in grey with under- and over-exposed pixels coloured.

    Args:
        rgb: uint8 [H, W, 3].
        exposure: 0 normal, 1 under, 2 over, 255 unknown, uint8 [H, W].

    Returns:
        RGB uint8 [H, W, 3].
    """
    picture = _grey(rgb)
    picture[exposure == UNDER_EXPOSED] = UNDER_COLOR
    picture[exposure == OVER_EXPOSED] = OVER_COLOR
    picture[exposure == UNKNOWN] = UNKNOWN_COLOR
    return picture


def error_picture(labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return right pixels green, wrong ones red, pixels without truth dark.

    Args:
        labels: predicted trainIds, uint8 [H, W].
        truth: trainIds, uint8 [H, W].

    Returns:
        RGB uint8 [H, W, 3].
    """
    right = (labels == truth)[..., None]
    picture = np.where(right, np.array(RIGHT_COLOR, np.uint8), np.array(WRONG_COLOR, np.uint8))
    picture[truth == UNLABELLED] = UNRATED_COLOR
    return picture


def _column(
    rows: Sequence[FrameNumbers], value: Callable[[FrameNumbers], float | None]
) -> NDArray[np.float64]:
    numbers = (value(row) for row in rows)
    return np.array([np.nan if n is None else n for n in numbers], np.float64)


def _grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _axes(figure: Figure, theme: Theme, place: int = 111) -> Axes:
    axes = figure.add_subplot(place)
    axes.set_facecolor('none')
    axes.set_axisbelow(True)
    axes.grid(color=theme.grid, lw=0.8)
    axes.tick_params(colors=theme.text, labelsize=8.5, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == 'bottom')
        spine.set_color(theme.grid)
    return axes


def _label(axes: Axes, theme: Theme, x: str, y: str, legend: bool = True) -> None:
    axes.set_xlabel(x, color=theme.text, fontsize=9)
    axes.set_ylabel(y, color=theme.text, fontsize=9)
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend(
            fontsize=8.5,
            labelcolor=theme.text,
            facecolor=theme.paper,
            edgecolor=theme.grid,
            framealpha=0.9,
        )


def _line_style(line: TimeLine) -> dict[str, Any]:
    """Return a line with dots for short runs; dots also show points between two drops."""
    few = line.time.size <= 150
    return {'lw': 1.4, 'marker': '.', 'ms': 5 if few else 2}


def _mark_drops(axes: Axes, line: TimeLine, theme: Theme) -> None:
    dropped = line.time[~line.received]
    if dropped.size:
        axes.plot(
            dropped,
            np.zeros(dropped.size),
            '|',
            color=theme.red,
            ms=12,
            mew=1.5,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            label=f'no mask ({dropped.size})',
        )


def _scale_latency(axes: Axes, latencies_ms: NDArray[np.float64], upwards: bool) -> bool:
    """Set the latency axis, logarithmic if one slow frame would flatten the rest: then True."""
    known = latencies_ms[~np.isnan(latencies_ms)]
    fastest = known.min(initial=np.inf)
    wide = known.size > 0 and fastest > 0 and known.max() > _LOG_RATIO * np.median(known)
    if wide and upwards:
        axes.set_yscale('log')
    elif wide:
        axes.set_xscale('log')
    elif upwards:
        axes.set_ylim(bottom=0)
    return bool(wide)


def _rows_height(rows: int) -> float:
    return 1.1 + 0.28 * max(rows, 3)


def _render(draw: Callable[[Figure, Theme], None], height: float = 3.1) -> Plot:
    """Draw a figure of this height (inches, 7.2 wide) once per theme."""
    return Plot(_png(draw, LIGHT, height), _png(draw, DARK, height))


def _png(draw: Callable[[Figure, Theme], None], theme: Theme, height: float) -> bytes:
    figure = Figure(figsize=(7.2, height), dpi=_DPI, layout='constrained', facecolor='none')
    FigureCanvasAgg(figure)
    draw(figure, theme)
    stream = io.BytesIO()
    figure.savefig(stream, format='png', transparent=True)
    return stream.getvalue()
