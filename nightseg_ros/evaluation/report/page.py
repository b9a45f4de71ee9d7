"""The page of a run or of several drives: report.html."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.labels import CLASSES
from nightseg_ros.core.labels import NAMES
from nightseg_ros.evaluation.report import formats
from nightseg_ros.evaluation.report import plots
from nightseg_ros.evaluation.report.drives import drive_plot
from nightseg_ros.evaluation.report.drives import drive_table
from nightseg_ros.evaluation.report.formats import known
from nightseg_ros.evaluation.report.items import Absent
from nightseg_ros.evaluation.report.items import Plot
from nightseg_ros.evaluation.report.metric_table import METRICS
from nightseg_ros.evaluation.report.metric_table import Metric
from nightseg_ros.evaluation.report.sheets import Sheet
from nightseg_ros.evaluation.report.sheets import css_color
from nightseg_ros.evaluation.report.svg import BLUE
from nightseg_ros.evaluation.report.templating import environment
from nightseg_ros.evaluation.report.templating import relative_link
from nightseg_ros.evaluation.report.time_line import Mark
from nightseg_ros.evaluation.report.time_line import has_time_line
from nightseg_ros.evaluation.report.time_line import time_line

MAX_THUMBNAILS = 12
"""Most thumbnails above the time line."""
MAX_DROPPED_SHARE = 0.05
"""More dropped frames than this are shown in alarm."""
MAX_COLLAPSED_SHARE = 0.01
"""More collapsed masks than this are shown in alarm."""

_NEED_TRUTH = {'miou', 'mef1', 'accuracy', 'ece', 'aurc'}
_NEED_REPLAY = {'p50_ms', 'p95_ms', 'p99_ms', 'max_ms', 'age_p99_ms', 'gap_p99_ms'}
_NO_TRUTH = 'no frame had a ground truth to compare with'


@dataclass(frozen=True)
class Card:
    """One number of the summary with its 95 % interval ('' without), and what it says."""

    title: str
    value: str
    interval: str
    more: str
    alarm: bool


@dataclass(frozen=True)
class ConfusionCell:
    """Share of the row, 0..1, as text ('' below half a percent), and its background."""

    text: str
    hint: str
    background: str


@dataclass(frozen=True)
class Confusion:
    """The confusion matrix without empty rows, and without columns that are empty and no row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, int, tuple[ConfusionCell, ...]], ...]


def write_page(
    path: Path,
    summary: Mapping[str, Any],
    rows: Mapping[str, NDArray[np.float64]],
    samples: Sequence[Sheet],
    worst: Sequence[Sheet],
) -> None:
    """Write the page: one file that needs no network and no other file but the video beside it.

    Args:
        path: the file to write.
        summary: what report.json holds.
        rows: what report.csv holds, float64 [N] per column, NaN = unknown; {} where there are
            no frames.
        samples: evenly spaced frames, in order.
        worst: the worst frames, worst first.

    Raises:
        OSError: if the file cannot be written.
    """
    merged = bool(summary['drives'])
    interval_ms = _interval_ms(summary)
    thumbnails = [] if merged else _spread(samples, MAX_THUMBNAILS)
    timeline = _time_line(summary, rows, thumbnails, worst, interval_ms)
    page = (
        environment()
        .get_template('report.html.j2')
        .render(
            summary=summary,
            facts=_facts(summary),
            card_groups=_card_groups(summary, interval_ms),
            missing=_missing(summary),
            video=relative_link(summary['video']) if summary['video'] else None,
            drives=drive_table(summary['drives']) if merged else None,
            drive_plot=_drive_plot(summary) if merged else None,
            timeline=timeline,
            thumbnails=[(samples.index(sheet), sheet) for sheet in thumbnails],
            strip=(100 * plots.LEFT / plots.WIDE, 100 * plots.RIGHT / plots.WIDE),
            samples=samples,
            worst=worst,
            worst_by='mIoU' if summary['truth_frames'] else 'confidence',
            colors={c.name: css_color(c.color) for c in CLASSES},
            unseen_classes=[
                row['name']
                for row in summary['classes']
                if row['iou'] is not None and not row['support_pixels']
            ],
            confusion=_confusion(np.array(summary['confusion'], np.int64)),
            exposure=_exposure(summary),
            trust=[_reliability(summary), _risk_coverage(summary)],
            speed=_speed(summary, rows, interval_ms),
            durations=plots.durations(summary),
            reasons=_reasons(summary),
            no_truth=_NO_TRUTH,
        )
    )
    path.write_text(page, encoding='utf-8')


def _interval_ms(summary: Mapping[str, Any]) -> float | None:
    rate = summary['rate_hz']
    return 1000.0 / rate if known(rate) and rate > 0 else None


def _spread(samples: Sequence[Sheet], most: int) -> list[Sheet]:
    """Return at most so many of the sheets, evenly chosen."""
    places = np.unique(np.linspace(0, len(samples) - 1, min(most, len(samples))).astype(np.int64))
    return [samples[i] for i in places]


def _facts(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return what was run, by name; unknown things are left out."""
    source, truth = summary['source'], summary['source']['truth']
    modes = {
        'offline': 'offline: every frame, as fast as the machine allows',
        'replay': 'replay against the live node',
    }
    rate = summary['rate_hz']
    facts = {
        'Bag': source['bag'],
        'Camera': source['camera'],
        'Recorded as': ', '.join(s for s in (source['storage'], source['ros_distro']) if s),
        'Duration': formats.duration(source['duration_s']) if source['duration_s'] else None,
        'Frame rate': f'{rate:.4g} Hz' if known(rate) else None,
        'Ground truth': None if truth is None else _truth_text(truth),
        'Model': summary['model'],
        'SHA-256': summary['model_sha256'] and f'{summary["model_sha256"][:12]}…',
        'Backend': summary['backend'],
        'Mode': modes.get(summary['mode'], summary['mode']),
        'Software': summary['software'],
        'Created': summary['created'],
    }
    return {name: str(value) for name, value in facts.items() if value}


def _truth_text(truth: Mapping[str, Any]) -> str:
    certainty = ' (assumed: nothing in the labels speaks against it)' if truth['assumed'] else ''
    text = (
        f'{truth["name"]}, {truth["format"]}{certainty}, {formats.count(truth["matched"])} frames'
    )
    if truth['tolerance_ms'] is not None:
        text += f' matched within {formats.MILLISECONDS(truth["tolerance_ms"])}'
    return f'{text}, {formats.count(truth["unmatched"])} frames without a label'


def _card_groups(summary: Mapping[str, Any], interval_ms: float | None) -> dict[str, list[Card]]:
    """Return the cards of all metrics that are known, by their heading."""
    groups: dict[str, list[Card]] = {}
    for metric in METRICS.values():
        if _has(summary, metric):
            groups.setdefault(metric.group, []).append(_card(metric, summary, interval_ms))
    return groups


def _has(summary: Mapping[str, Any], metric: Metric) -> bool:
    return known(summary['metrics'].get(metric.name))


def _card(metric: Metric, summary: Mapping[str, Any], interval_ms: float | None) -> Card:
    value = summary['metrics'][metric.name]
    more, alarm = metric.meaning, False
    if metric.name == 'miou':
        scored = sum(row['iou'] is not None for row in summary['classes'])
        more = f'mean over {scored} classes, {formats.count(summary["truth_frames"])} frames'
    elif metric.name == 'ece':
        more = _confidence_text(summary['reliability']) or more
    elif metric.name == 'dropped_share':
        more = f'{formats.count(summary["dropped"])} of {formats.count(summary["frames"])} frames'
        alarm = value > MAX_DROPPED_SHARE
    elif metric.name == 'collapsed_share':
        alarm = value > MAX_COLLAPSED_SHARE
    elif metric.name in ('p50_ms', 'p95_ms', 'p99_ms') and interval_ms and value > interval_ms:
        more = f'slower than the frames come ({formats.MILLISECONDS(interval_ms)})'
        alarm = True
    interval = metric.format.interval(summary['intervals'].get(metric.name))
    return Card(metric.title, metric.format(value), interval, more, alarm)


def _confidence_text(bins: Sequence[Mapping[str, Any]]) -> str | None:
    """Return in words whether the network is surer than it is right."""
    rated = [b for b in bins if b['pixels'] and known(b['confidence']) and known(b['accuracy'])]
    pixels = sum(b['pixels'] for b in rated)
    if not pixels:
        return None
    sure = sum(b['pixels'] * b['confidence'] for b in rated) / pixels
    right = sum(b['pixels'] * b['accuracy'] for b in rated) / pixels
    word = 'over-confident' if sure > right else 'under-confident'
    return f'{word}: sure of {formats.FRACTION(sure)}, right in {formats.FRACTION(right)}'


def _missing(summary: Mapping[str, Any]) -> list[Absent]:
    """Return one line per reason why metrics are not known."""
    reasons: dict[str, list[str]] = {}
    for metric in METRICS.values():
        if not _has(summary, metric):
            reasons.setdefault(_why_missing(metric.name, summary), []).append(metric.title)
    return [Absent(', '.join(titles), reason) for reason, titles in reasons.items()]


def _why_missing(name: str, summary: Mapping[str, Any]) -> str:
    if not summary['frames']:
        return 'there was no frame'
    if not summary['received']:
        return 'no mask came'
    if name in _NEED_TRUTH and not summary['truth_frames']:
        return _NO_TRUTH
    if name in _NEED_REPLAY and summary['mode'] != 'replay':
        return 'measured only in a replay against the live node'
    if name == 'flicker':
        return 'no two frames in a row had a mask'
    return 'not measured in this run'


def _drive_plot(summary: Mapping[str, Any]) -> Plot | Absent:
    svg = drive_plot(summary['drives'])
    if svg is None:
        return Absent('All drives', 'fewer than two drives have numbers to compare')
    return Plot(
        'All drives',
        'Every dot is a drive, the worst at the left; the dashed line is the median of all. A '
        'flat row with a steep left end means that few drives are to be looked at, not the model.',
        svg,
    )


def _time_line(
    summary: Mapping[str, Any],
    rows: Mapping[str, NDArray[np.float64]],
    thumbnails: Sequence[Sheet],
    worst: Sequence[Sheet],
    interval_ms: float | None,
) -> Plot | Absent:
    title = 'Time line'
    if summary['drives']:
        return Absent(title, 'it belongs to a single drive: open the page of a drive above')
    if not has_time_line(rows):
        return Absent(title, 'no frame has a number to plot')
    svg = time_line(
        rows,
        [Mark(sheet.index, sheet.time_s) for sheet in thumbnails],
        [Mark(sheet.index, sheet.time_s) for sheet in worst],
        interval_ms,
    )
    return Plot(
        title,
        'All panels share one time axis; what happens at the same place happened at the same time. '
        'Red ticks are frames without a mask, triangles the worst frames below; where a drive is '
        'long, a line is the mean of neighbouring frames and its band reaches from their lowest '
        'to their highest.',
        svg,
    )


def _confusion(confusion: NDArray[np.int64]) -> Confusion | None:
    """Return the matrix for the page; None without a single annotated pixel."""
    if not confusion.any():
        return None
    kept = np.flatnonzero(confusion.sum(axis=1))
    columns = np.union1d(kept, np.flatnonzero(confusion.sum(axis=0)))
    names = (*NAMES, 'no class')
    rows = []
    for row in kept:
        pixels = int(confusion[row].sum())
        cells = tuple(
            _confusion_cell(names[row], names[c], confusion[row, c] / pixels, right=bool(row == c))
            for c in columns
        )
        rows.append((names[row], pixels, cells))
    return Confusion(tuple(names[c] for c in columns), tuple(rows))


def _confusion_cell(truth: str, predicted: str, share: float, right: bool) -> ConfusionCell:
    text = f'{share * 100:.0f}' if share >= 0.005 else ''
    color = '47 111 223' if right else '217 75 50'
    # The root lets a confusion of a few percent be seen beside the diagonal.
    background = f'rgb({color} / {0.75 * share**0.6:.2f})' if text else 'none'
    return ConfusionCell(text, f'{truth} taken for {predicted}: {share:.2%}', background)


def _exposure(summary: Mapping[str, Any]) -> Plot | Absent:
    bins = summary['exposure_bins']
    if not any(known(b['confidence']) or known(b['ef1']) for b in bins):
        return Absent('Exposure curves', 'no pixel of a mask has a known brightness')
    text = (
        'Pixels sorted by their brightness into ten bins. A curve that falls towards an end means '
        'that the model fails in the dark or in the glare; the bars say how many pixels that is.'
    )
    if not summary['truth_frames']:
        text += ' Without a ground truth only the confidence is known.'
    return Plot('Exposure curves', text, plots.exposure_curves(bins))


def _reliability(summary: Mapping[str, Any]) -> Plot | Absent:
    ece = summary['metrics'].get('ece')
    bins = [b for b in summary['reliability'] if known(b['accuracy'])]
    if not bins:
        return Absent('Reliability diagram', _NO_TRUTH)
    return Plot(
        f'Reliability, ECE {METRICS["ece"].format(ece)}',
        'Bars without their red part say how often pixels of that confidence are right. Red is '
        'confidence that is not earned, green what is right more often than it claims; ECE is '
        'their mean height, weighted by pixels.',
        plots.reliability(summary['reliability']),
    )


def _risk_coverage(summary: Mapping[str, Any]) -> Plot | Absent:
    points = summary['risk_coverage']
    if not points:
        return Absent('Risk-coverage curve', _NO_TRUTH)
    aurc = METRICS['aurc'].format(summary['metrics'].get('aurc'))
    return Plot(
        f'Risk and coverage, AURC {aurc}',
        'How wrong the mask is if only the surest pixels are used. The more the curve lies near '
        'zero until far right, the better confidence tells right from wrong; AURC is the area '
        'below it.',
        plots.risk_coverage([('this run', BLUE, points)]),
    )


def _speed(
    summary: Mapping[str, Any],
    rows: Mapping[str, NDArray[np.float64]],
    interval_ms: float | None,
) -> dict[str, Plot | Absent]:
    """Return the plots about speed and load: the wide one, and the narrow ones in order."""
    return {
        'latency': _latency(summary, rows),
        'stages': _stages(summary, interval_ms),
        'gaps': _gaps(summary, interval_ms),
        'memory': _memory(summary),
    }


def _latency(summary: Mapping[str, Any], rows: Mapping[str, NDArray[np.float64]]) -> Plot | Absent:
    latencies = plots.column(rows, 'latency_ms')
    latencies = latencies[~np.isnan(latencies)]
    if not latencies.size:
        return Absent('Latency distribution', _why_missing('p50_ms', summary))
    return Plot(
        'Latency distribution',
        'Left: how many frames took how long from image to mask; right: which part of them took '
        'at most that long. p99: 99 % of the frames were at least this fast.',
        plots.latency_distribution(latencies, summary['latency_ms']),
    )


def _stages(summary: Mapping[str, Any], interval_ms: float | None) -> Plot | Absent:
    apart = (plots.AGE, plots.GAP)
    entries = [(n, values) for n, values in plots.durations(summary) if n not in apart]
    if not entries:
        return Absent('Latency by stage', 'no stage was timed')
    return Plot(
        'Latency by stage',
        'Where the time goes: dot p50, first tick p95, red tick p99, the three numbers at the '
        'right. A stage whose ticks lie far from its dot is what makes single frames late.',
        plots.ranges(entries, interval_ms),
    )


def _gaps(summary: Mapping[str, Any], interval_ms: float | None) -> Plot | Absent:
    apart = (plots.AGE, plots.GAP)
    entries = [(n, values) for n, values in plots.durations(summary) if n in apart]
    if not entries:
        reason = _why_missing('gap_p99_ms', summary)
        return Absent('Age and gaps between masks', reason)
    return Plot(
        'Age and gaps between masks',
        'Age: how old what a mask shows is when it arrives. Gap: how long a consumer waits from '
        'one mask to the next; gaps of several frame intervals mean that frames were dropped.',
        plots.ranges(entries, interval_ms),
    )


def _memory(summary: Mapping[str, Any]) -> Plot | Absent:
    used = summary['memory']
    if len(used['series']) < 2:
        return Absent('Memory over time', 'memory was not sampled')
    first, peak, last = (
        formats.MEBIBYTES(used[f'{when}_mib']) for when in ('first', 'peak', 'last')
    )
    return Plot(
        'Memory over time',
        f'Resident memory of the {used["process"]}: {first} at first, {peak} at most, {last} at '
        f'last. A line that keeps rising is a leak.',
        plots.memory(used['series']),
    )


def _reasons(summary: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, int, float]]]]:
    """Return what was lost and why: heading, and reason, number and share of all frames each."""
    truth = summary['source']['truth']
    tables = [
        ('Frames without a mask', summary['drops']),
        ('Messages that could not be read', summary['unreadable']),
        ('Labels that were refused', truth['refused'] if truth else {}),
    ]
    frames = max(summary['frames'], 1)
    return [
        (title, [(_words(r), n, n / frames) for r, n in sorted(by.items(), key=_most_first)])
        for title, by in tables
        if by
    ]


def _words(reason: str) -> str:
    return reason.replace('_', ' ')


def _most_first(counted: tuple[str, int]) -> tuple[int, str]:
    return -counted[1], counted[0]
