"""The plots of a comparison: what both reports hold, laid over each other or side by side."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from nightseg_ros.evaluation.report import formats
from nightseg_ros.evaluation.report.formats import known
from nightseg_ros.evaluation.report.items import Absent
from nightseg_ros.evaluation.report.items import Plot
from nightseg_ros.evaluation.report.plots import LEFT
from nightseg_ros.evaluation.report.plots import NARROW
from nightseg_ros.evaluation.report.plots import RIGHT
from nightseg_ros.evaluation.report.plots import durations
from nightseg_ros.evaluation.report.plots import numbers
from nightseg_ros.evaluation.report.plots import risk_coverage
from nightseg_ros.evaluation.report.plots import scale_durations
from nightseg_ros.evaluation.report.plots import whiskers
from nightseg_ros.evaluation.report.svg import BLUE
from nightseg_ros.evaluation.report.svg import INK
from nightseg_ros.evaluation.report.svg import ORANGE
from nightseg_ros.evaluation.report.svg import Canvas
from nightseg_ros.evaluation.report.svg import plain
from nightseg_ros.evaluation.report.svg import title
from nightseg_ros.evaluation.report.svg import write

_NO_TRUTH = 'neither report has a ground truth'
_COLORS = (('A', BLUE), ('B', ORANGE))

Report = Mapping[str, Any]
Entries = Sequence[Mapping[str, Any]]


def comparison_plots(a: Report, b: Report) -> list[Plot | Absent]:
    """Return the plots of two reports in the order of the page."""
    return [
        _classes(a['classes'], b['classes']),
        _exposure(a['exposure_bins'], b['exposure_bins']),
        _reliability(a['reliability'], b['reliability']),
        _risk_coverage(a, b),
        _latency(a, b),
    ]


def _classes(a: Entries, b: Entries) -> Plot | Absent:
    name = 'IoU per class'
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if known(x['iou']) or known(y['iou'])]
    if not pairs:
        return Absent(name, _NO_TRUTH)
    return Plot(
        name,
        'Two bars per class with their 95 % intervals; no bar: the class is not in that report. '
        'Classes are not tested one by one: bars whose intervals overlap may well be equal.',
        _class_bars(pairs),
    )


def _class_bars(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Markup:
    left, row = 110, 26
    canvas = Canvas(NARROW, row * len(pairs) + 76, 'IoU per class of A and B')
    axes = canvas.axes(left, 34, NARROW - left - RIGHT, row * len(pairs))
    places = np.arange(len(pairs), dtype=np.float64)
    sides = zip(*pairs, strict=True)
    for offset, (name, color), entries in zip((-0.2, 0.2), _COLORS, sides, strict=True):
        values = numbers(entries, 'iou')
        axes.barh(
            places + offset, values, 0.36, color=color, alpha=0.75, label=name,
            xerr=whiskers(entries, values), error_kw={'ecolor': INK, 'elinewidth': 1.2},
        )  # fmt: skip
    axes.set_yticks(places, [x['name'] for x, _ in pairs])
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.grid(axis='y', visible=False)
    axes.set_xlabel('intersection over union')
    title(axes, '')
    return canvas.markup()


def _exposure(a: Entries, b: Entries) -> Plot | Absent:
    name = 'EF1 per brightness bin'
    if not any(known(entry['ef1']) for entry in (*a, *b)):
        return Absent(name, _NO_TRUTH)
    canvas = Canvas(NARROW, 330, 'EF1 per brightness bin of A and B')
    axes = canvas.axes(LEFT, 34, NARROW - LEFT - RIGHT, 250)
    places = np.arange(len(a), dtype=np.float64)
    for offset, (report, color), entries in zip((-0.2, 0.2), _COLORS, (a, b), strict=True):
        values = numbers(entries, 'ef1')
        axes.bar(
            places + offset, values, 0.36, color=color, alpha=0.75, label=report,
            yerr=whiskers(entries, values), error_kw={'ecolor': INK, 'elinewidth': 1.2},
        )  # fmt: skip
    axes.set_xticks(places, [f'{0.1 * i:.1f}' for i in range(len(a))])
    axes.set_ylim(0, 1.02)
    axes.grid(axis='x', visible=False)
    axes.set_xlabel('brightness V of the pixel, from this value on (0 black, 1 white)')
    title(axes, 'EF1')
    return Plot(
        name,
        'From the darkest pixels at the left to the brightest at the right. A model that is better '
        'at night has its lead in the left bins.',
        canvas.markup(),
    )


def _reliability(a: Entries, b: Entries) -> Plot | Absent:
    name = 'Reliability'
    if not any(known(entry['accuracy']) for entry in (*a, *b)):
        return Absent(name, _NO_TRUTH)
    canvas = Canvas(NARROW, 380, 'Reliability of A and B')
    axes = canvas.axes(LEFT, 34, NARROW - LEFT - RIGHT, 300)
    axes.plot([0, 1], [0, 1], color=INK, lw=1.4, ls=(0, (4, 3)), label='ideal')
    for (report, color), entries in zip(_COLORS, (a, b), strict=True):
        values = numbers(entries, 'accuracy')
        axes.plot(
            numbers(entries, 'confidence'), values, 'o-', color=color, lw=2, ms=6, label=report
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel('confidence')
    title(axes, 'Accuracy')
    return Plot(
        name,
        'How often pixels of each confidence are right. The nearer a curve to the dashed line, the '
        'better its confidence can be taken at its word; below it the model is too sure.',
        canvas.markup(),
    )


def _risk_coverage(a: Report, b: Report) -> Plot | Absent:
    name = 'Risk and coverage'
    curves = [
        (label, color, report['risk_coverage'])
        for (label, color), report in zip(_COLORS, (a, b), strict=True)
        if report['risk_coverage']
    ]
    if not curves:
        return Absent(name, _NO_TRUTH)
    return Plot(
        name,
        'How wrong the mask is if only the surest pixels are used. The lower curve tells right '
        'from wrong better at that coverage.',
        risk_coverage(curves),
    )


def _latency(a: Report, b: Report) -> Plot | Absent:
    name = 'Latency'
    timed = [dict(durations(report)) for report in (a, b)]
    rows = [stage for stage in timed[0] if stage in timed[1]]
    if not rows:
        return Absent(name, 'the reports have no timed stage in common')
    return Plot(
        name,
        'Dot p50, first tick p95, second tick p99, written at the right: everything that both '
        'reports timed. The reports hold percentiles only, not the single frames.',
        _duration_pairs(rows, timed),
    )


def _duration_pairs(
    rows: Sequence[str], timed: Sequence[Mapping[str, Mapping[str, float | None]]]
) -> Markup:
    left, right, row = 136, 152, 48
    canvas = Canvas(NARROW, row * len(rows) + 78, 'Latency of A and B by stage')
    axes = canvas.axes(left, 34, NARROW - left - right, row * len(rows))
    places = np.arange(len(rows), dtype=np.float64)
    every = []
    for offset, (name, color), report in zip((-0.19, 0.19), _COLORS, timed, strict=True):
        middle, high, highest = (
            np.array([report[stage][p] for stage in rows], np.float64)
            for p in ('p50', 'p95', 'p99')
        )
        every += [middle, highest]
        axes.hlines(places + offset, middle, highest, color=color, lw=6, alpha=0.3)
        axes.plot(middle, places + offset, 'o', color=color, ms=8, label=name)
        for values in (high, highest):
            axes.plot(values, places + offset, '|', color=color, ms=12, mew=2)
        for place, values in zip(places + offset, np.stack([middle, high, highest]).T, strict=True):
            text = ' / '.join(formats.MILLISECONDS.number(value) for value in values)
            write(axes, 1.03, place, text, transform=axes.get_yaxis_transform())
    scale_durations(axes, np.concatenate(every))
    axes.set_yticks(places, [plain(stage) for stage in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis='y', visible=False)
    axes.set_xlabel('milliseconds')
    title(axes, '')
    return canvas.markup()
