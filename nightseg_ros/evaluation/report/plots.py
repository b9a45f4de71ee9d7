"""The plots of a report, each drawn only when there is something to draw."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from matplotlib.ticker import MaxNLocator
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from nightseg_ros.evaluation.report import formats
from nightseg_ros.evaluation.report.decimation import Envelope
from nightseg_ros.evaluation.report.decimation import envelope
from nightseg_ros.evaluation.report.svg import BLUE
from nightseg_ros.evaluation.report.svg import INK
from nightseg_ros.evaluation.report.svg import ORANGE
from nightseg_ros.evaluation.report.svg import RED
from nightseg_ros.evaluation.report.svg import SOFT
from nightseg_ros.evaluation.report.svg import TEAL
from nightseg_ros.evaluation.report.svg import VIOLET
from nightseg_ros.evaluation.report.svg import Canvas
from nightseg_ros.evaluation.report.svg import logarithmic
from nightseg_ros.evaluation.report.svg import plain
from nightseg_ros.evaluation.report.svg import title
from nightseg_ros.evaluation.report.svg import write

WIDE, NARROW = 1156, 556
"""Width in pixels of a plot that has the page to itself, and of one that shares a row."""
LEFT, RIGHT = 64, 20
"""Pixels beside the axes of a wide plot; the thumbnails above the time line keep them too."""

COMPARABLE = 3.0
"""A frame interval longer than so many times what was measured would only press it down."""
AGE, GAP = 'age of the frame', 'gap between masks'
"""Names of the durations that are no stages."""

_STAGES = ('decode', 'preprocess', 'infer', 'postprocess', 'measure', 'publish', 'age')
_LOG_RATIO = 15.0
"""What is this many times longer than the rest puts durations on a logarithmic axis."""
_FEW_POINTS = 150
_MAX_STEPS = 500
_DRIVE_METRICS = 3


def column(rows: Mapping[str, NDArray[np.float64]], name: str) -> NDArray[np.float64]:
    """Return a column of report.csv, float64 [N]; NaN where it is unknown or not there."""
    length = max((len(values) for values in rows.values()), default=0)
    return np.asarray(rows.get(name, np.full(length, np.nan)), np.float64)


def numbers(entries: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    """Return one value of each entry, float64 [N], NaN for None."""
    return np.array([np.nan if e[name] is None else e[name] for e in entries], np.float64)


def whiskers(
    entries: Sequence[Mapping[str, Any]], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how far each interval reaches below and above its value, float64 [2, N]."""
    ends = np.array([e['interval'] or (np.nan, np.nan) for e in entries], np.float64)
    return np.maximum(np.stack([values - ends[:, 0], ends[:, 1] - values]), 0.0)


def any_known(values: NDArray[np.float64]) -> bool:
    """Return whether there is a value that is not NaN."""
    return bool(values.size) and not bool(np.isnan(values).all())


def is_wide(values: NDArray[np.float64]) -> bool:
    """Return whether one slow frame would flatten all others on a linear axis."""
    found = values[~np.isnan(values)]
    if not found.size or found.min() <= 0:
        return False
    return bool(found.max() > _LOG_RATIO * np.median(found))


def draw_line(axes: Axes, line: Envelope, color: str, label: str) -> None:
    """Draw a line, its band where it stands for more, and dots where it would not be seen."""
    if line.decimated:
        # The outline: a single frame far off is but a hair of the band.
        axes.fill_between(
            line.time, line.low, line.high, facecolor=(color, 0.25), edgecolor=(color, 0.7), lw=0.7
        )
    there = ~np.isnan(line.mean)
    neighbours = np.pad(there, 1)
    dots = there if there.size <= _FEW_POINTS else there & ~neighbours[:-2] & ~neighbours[2:]
    axes.plot(line.time, line.mean, color=color, lw=1.6, label=label)
    if dots.any():
        axes.plot(line.time[dots], line.mean[dots], '.', color=color, ms=5)


def durations(summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float | None]]]:
    """Return the percentiles of all that was timed, stages first in the order they happen."""
    stages = dict(summary['stages_ms'])
    if _is_timed(summary['age_ms']):
        # A node reports it among its stages, but it is not one of those that follow each other.
        stages.pop('age', None)
    ordered = [s for s in _STAGES if s in stages] + [s for s in stages if s not in _STAGES]
    named = [(stage, stages[stage]) for stage in ordered]
    named += [
        ('end to end', summary['latency_ms']),
        (AGE, summary['age_ms']),
        (GAP, summary['gap_ms']),
    ]
    return [(name, values) for name, values in named if _is_timed(values)]


def latency_distribution(
    latencies_ms: NDArray[np.float64], percentiles: Mapping[str, float | None]
) -> Markup:
    """Plot histogram and cumulative share of latencies with their percentiles.

    Args:
        latencies_ms: float64 [N], N > 0, without NaN.
        percentiles: p50, p95, p99 of them.
    """
    canvas = Canvas(WIDE, 290, 'Distribution of the latency')
    left = canvas.axes(LEFT, 34, 486, 210)
    right = canvas.axes(LEFT + 586, 34, WIDE - RIGHT - LEFT - 586, 210)
    ordered = np.sort(latencies_ms)
    bins = int(np.clip(np.sqrt(ordered.size) * 2, 8, 60))
    edges: Any = bins
    if is_wide(ordered):
        edges = np.geomspace(ordered[0], ordered[-1], bins + 1)
    left.grid(axis='x', visible=False)
    left.hist(ordered, bins=edges, color=BLUE, alpha=0.6)
    left.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    steps = np.unique(np.linspace(0, ordered.size - 1, _MAX_STEPS).astype(np.int64))
    right.step(ordered[steps], (steps + 1) / ordered.size, where='post', color=BLUE, lw=2)
    right.set_ylim(0, 1.02)
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    for name, color, style in (('p50', TEAL, '-'), ('p95', ORANGE, '--'), ('p99', RED, ':')):
        value = percentiles[name]
        if value is None:
            continue
        for axes in (left, right):
            label = f'{name} {formats.MILLISECONDS(value)}'
            axes.axvline(value, color=color, ls=style, lw=2, label=label)
    for axes in (left, right):
        axes.set_xlabel('latency [ms]')
        if is_wide(ordered):
            logarithmic(axes, 'x')
    title(left, 'Number of frames')
    title(right, 'Share of frames at most this slow', legend=False)
    return canvas.markup()


def ranges(
    entries: Sequence[tuple[str, Mapping[str, float | None]]], reference_ms: float | None
) -> Markup:
    """Plot p50, p95 and p99 of several durations, one below the other.

    Args:
        entries: name and `p50`, `p95`, `p99` in milliseconds, all three known.
        reference_ms: the time between two frames, drawn as a line to compare with.
    """
    left, right, row = 136, 148, 30
    height = row * len(entries)
    canvas = Canvas(NARROW, height + 78, 'Percentiles of ' + ', '.join(n for n, _ in entries))
    axes = canvas.axes(left, 32, NARROW - left - right, height)
    middle, high, highest = (
        np.array([values[name] for _, values in entries], np.float64)
        for name in ('p50', 'p95', 'p99')
    )
    places = np.arange(len(entries), dtype=np.float64)
    axes.hlines(places, middle, highest, color=BLUE, lw=7, alpha=0.25)
    axes.hlines(places, middle, high, color=BLUE, lw=7, alpha=0.45)
    axes.plot(middle, places, 'o', color=BLUE, ms=9, label='p50')
    axes.plot(high, places, '|', color=BLUE, ms=13, mew=2, label='p95')
    axes.plot(highest, places, '|', color=RED, ms=13, mew=2, label='p99')
    if reference_ms is not None and reference_ms < COMPARABLE * highest.max():
        name = f'frame interval {formats.MILLISECONDS(reference_ms)}'
        axes.axvline(reference_ms, color=SOFT, lw=1.2, ls=(0, (4, 3)), label=name)
    scale_durations(axes, np.concatenate([middle, highest]))
    axes.set_yticks(places, [plain(name) for name, _ in entries])
    axes.set_ylim(len(entries) - 0.5, -0.5)
    axes.grid(axis='y', visible=False)
    axes.set_xlabel('milliseconds')
    for place, (low, up, most) in enumerate(zip(middle, high, highest, strict=True)):
        text = ' / '.join(formats.MILLISECONDS.number(value) for value in (low, up, most))
        write(axes, 1.03, place, text, transform=axes.get_yaxis_transform())
    title(axes, '')
    return canvas.markup()


def scale_durations(axes: Axes, values: NDArray[np.float64]) -> None:
    """Make the axis of durations logarithmic where the short ones would not be seen."""
    if values.min() > 0 and values.max() > _LOG_RATIO * values.min():
        logarithmic(axes, 'x')
    else:
        axes.set_xlim(left=0)


def memory(series: Sequence[Sequence[float]]) -> Markup:
    """Plot memory in MiB over seconds, [[seconds, MiB], ...]."""
    canvas = Canvas(NARROW, 254, 'Memory over time')
    axes = canvas.axes(LEFT, 16, NARROW - LEFT - RIGHT, 190)
    time, used = np.array(series, np.float64).T
    draw_line(axes, envelope(time, used), BLUE, 'memory')
    axes.set_ylim(0, float(np.nanmax(used)) * 1.15)
    axes.set_xlabel('seconds since the evaluation began')
    _unit(axes, 'MiB')
    return canvas.markup()


def exposure_curves(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """Plot EF1, accuracy and confidence of the ten brightness bins above their share of pixels."""
    canvas = Canvas(NARROW, 418, 'EF1, accuracy and confidence per brightness bin')
    width = NARROW - LEFT - RIGHT
    upper, lower = canvas.axes(LEFT, 34, width, 236), canvas.axes(LEFT, 308, width, 64)
    places = np.arange(len(bins), dtype=np.float64)
    ef1 = numbers(bins, 'ef1')
    if any_known(ef1):
        upper.errorbar(
            places, ef1, yerr=whiskers(bins, ef1), fmt='s-', color=BLUE, lw=3, ms=7,
            elinewidth=1.4, capsize=3, label='EF1 with 95 % interval',
        )  # fmt: skip
    # Dashed and on top: accuracy often lies on EF1.
    for name, color in (('confidence', VIOLET), ('accuracy', TEAL)):
        values = numbers(bins, name)
        if any_known(values):
            upper.plot(places, values, 'o--', color=color, lw=1.6, ms=4, label=name, zorder=3)
    upper.set_ylim(0, 1.03)
    upper.set_xticks(places, [''] * len(bins))
    title(upper, 'Per bin')
    shares = np.nan_to_num(numbers(bins, 'share'))
    lower.grid(visible=False)
    lower.bar(places, shares, color=SOFT, alpha=0.6, width=0.8)
    lower.set_ylim(0, max(float(shares.max()) * 1.35, 0.01))
    for place, share in zip(places, shares, strict=True):
        write(lower, place, share, formats.PERCENT.number(share), ha='center', va='bottom')
    lower.set_yticks([])
    lower.set_xticks(places, [f'{0.1 * i:.1f}' for i in range(len(bins))])
    lower.set_xlabel('brightness V of the pixel, from this value on (0 black, 1 white)')
    title(lower, 'Share of all pixels [%]')
    for axes in (upper, lower):
        axes.set_xlim(-0.6, len(bins) - 0.4)
    return canvas.markup()


def reliability(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """Plot how often pixels of each confidence are right, above how many there are."""
    canvas = Canvas(NARROW, 418, 'Reliability diagram')
    width = NARROW - LEFT - RIGHT
    upper, lower = canvas.axes(LEFT, 34, width, 236), canvas.axes(LEFT, 308, width, 64)
    low, high = numbers(bins, 'low'), numbers(bins, 'high')
    confidence, accuracy = numbers(bins, 'confidence'), numbers(bins, 'accuracy')
    center, bar = (low + high) / 2, (high - low) * 0.92
    agreed = np.minimum(confidence, accuracy)
    upper.bar(center, agreed, bar, color=BLUE, alpha=0.55, label='right')
    for color, label, gap in (
        (RED, 'too sure', confidence - accuracy),
        (TEAL, 'too unsure', accuracy - confidence),
    ):
        shown = gap > 0
        if shown.any():
            upper.bar(
                center[shown], gap[shown], bar[shown], agreed[shown], color=color, alpha=0.4,
                label=label,
            )  # fmt: skip
    upper.plot([0, 1], [0, 1], color=INK, lw=1.4, ls=(0, (4, 3)), label='ideal')
    upper.set_ylim(0, 1.02)
    upper.tick_params(labelbottom=False)
    title(upper, 'Accuracy')
    pixels = np.nan_to_num(numbers(bins, 'pixels'))
    lower.grid(axis='x', visible=False)
    lower.bar(center, pixels / max(pixels.sum(), 1.0), bar, color=SOFT, alpha=0.6)
    lower.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    lower.yaxis.set_major_locator(MaxNLocator(2))
    lower.set_xlabel('confidence')
    title(lower, 'Share of the pixels')
    for axes in (upper, lower):
        axes.set_xlim(0, 1)
    return canvas.markup()


def risk_coverage(curves: Sequence[tuple[str, str, Sequence[Sequence[float]]]]) -> Markup:
    """Plot the error among the surest pixels against how many of all they are.

    Args:
        curves: name, colour and [[coverage, risk], ...] of each.
    """
    canvas = Canvas(NARROW, 418, 'Risk-coverage curve')
    axes = canvas.axes(LEFT, 34, NARROW - LEFT - RIGHT, 338)
    for name, color, points in curves:
        coverage, risk = np.array(points, np.float64).T
        axes.plot(coverage, risk, color=color, lw=2, label=name)
        if len(curves) == 1:
            axes.fill_between(coverage, risk, color=color, alpha=0.15, lw=0)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel('coverage: share of the pixels kept, surest first')
    title(axes, 'Risk: share of the kept pixels that is wrong', legend=len(curves) > 1)
    if len(curves) > 1:
        axes.legend(fontsize=12, labelcolor=SOFT, frameon=False, loc='upper left')
    return canvas.markup()


def drive_ranks(metrics: Sequence[tuple[str, NDArray[np.float64], bool]]) -> Markup:
    """Plot every drive as a dot, from worst to best, once per metric.

    Args:
        metrics: title, float64 [N] without NaN, and whether higher is better, of each; at most 3.
    """
    gap = 64
    canvas = Canvas(WIDE, 270, 'All drives from worst to best')
    width = (WIDE - RIGHT - LEFT - gap * (_DRIVE_METRICS - 1)) / _DRIVE_METRICS
    for place, (name, values, higher) in enumerate(metrics):
        axes = canvas.axes(LEFT + place * (width + gap), 34, width, 180)
        ordered = np.sort(values) if higher else -np.sort(-values)
        ranks = np.arange(1, ordered.size + 1)
        kept = np.unique(np.linspace(0, ordered.size - 1, _MAX_STEPS).astype(np.int64))
        few = ordered.size <= _FEW_POINTS
        axes.plot(ranks[kept], ordered[kept], 'o', color=BLUE, ms=6 if few else 3.5, alpha=0.8)
        middle = float(np.median(ordered))
        axes.axhline(middle, color=SOFT, lw=1.2, ls=(0, (4, 3)), label=f'median {middle:.3g}')
        axes.set_ylim(0, max(float(ordered.max()) * 1.12, 1e-3))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel('drives, worst first')
        title(axes, name)
    return canvas.markup()


def _is_timed(values: Mapping[str, float | None]) -> bool:
    return all(formats.known(values.get(name)) for name in ('p50', 'p95', 'p99'))


def _unit(axes: Axes, text: str) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g} {text}'))
    axes.tick_params(axis='y', labelsize=11)
