"""Two reports side by side, with the significance of their differences."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nightseg_ros.evaluation.report import formats
from nightseg_ros.evaluation.report.comparison_plots import comparison_plots
from nightseg_ros.evaluation.report.formats import known
from nightseg_ros.evaluation.report.metric_table import METRICS
from nightseg_ros.evaluation.report.metric_table import Metric
from nightseg_ros.evaluation.report.significance import Difference
from nightseg_ros.evaluation.report.significance import difference
from nightseg_ros.evaluation.report.significance import holm
from nightseg_ros.evaluation.report.significance import smallest_p
from nightseg_ros.evaluation.report.templating import environment

ALPHA = 0.05
REPORT_VERSION = 1
"""The version of report.json that can be compared."""

_SEED = 20240917
_BOOTSTRAP = ('replicates', 'unit', 'frames_sha256', 'values')
_REQUIRED: dict[str, type] = {
    'software': str, 'created': str, 'title': str, 'mode': str, 'complete': bool, 'source': dict,
    'model': str, 'backend': str, 'frames': int, 'truth_frames': int, 'metrics': dict,
    'intervals': dict, 'classes': list, 'exposure_bins': list, 'reliability': list,
    'risk_coverage': list, 'latency_ms': dict, 'age_ms': dict, 'gap_ms': dict, 'stages_ms': dict,
    'bootstrap': dict, 'model_sha256': object, 'rate_hz': object,
}  # fmt: skip
_HEADINGS = {
    'better': 'B is better',
    'worse': 'B is worse',
    'different': 'B differs, neither way better',
    'no significant difference': 'No significant difference',
    'not tested': 'Not tested',
}
_STYLES = {
    'better': 'better',
    'worse': 'worse',
    'different': 'different',
    'no significant difference': 'none',
    'not tested': 'none',
}

Verdict = Literal['better', 'worse', 'different', 'no significant difference', 'not tested']


@dataclass(frozen=True)
class MetricComparison:
    """One metric of both reports.

    Attributes:
        name: of the metric.
        a: its value in report A, None if unknown.
        b: its value in report B.
        a_interval: 95 % interval of A, None if unknown.
        b_interval: 95 % interval of B.
        difference: B - A, None where one is unknown.
        interval: 95 % interval of the difference, None if not tested.
        p: two-sided p-value of no difference, None if not tested.
        p_holm: p corrected for the number of metrics tested.
        verdict: what B is, compared with A.
    """

    name: str
    a: float | None
    b: float | None
    a_interval: tuple[float, float] | None
    b_interval: tuple[float, float] | None
    difference: float | None
    interval: tuple[float, float] | None
    p: float | None
    p_holm: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Setting:
    """One setting of both reports, as text; '–' where unknown."""

    name: str
    a: str
    b: str

    @property
    def differs(self) -> bool:
        """Whether the reports disagree on it."""
        return self.a != self.b


@dataclass(frozen=True)
class Comparison:
    """Two reports side by side.

    Attributes:
        paired: whether both are of the same frames, so that each replicate of A is compared with
            the same frames of B.
        alpha: level of the tests.
        replicates: number of bootstrap replicates compared.
        metrics: all that at least one report has, in the order of the pages.
        settings: what was run.
        warnings: why the comparison may be unfair.
        notes: how to read it.
    """

    paired: bool
    alpha: float
    replicates: int
    metrics: tuple[MetricComparison, ...]
    settings: tuple[Setting, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> Comparison:
    """Compare what two report.json hold.

    The replicates of both are resamplings with the same weights where both reports are of the same
    frames: their differences are then paired. Else B's are put into another, fixed order, which
    makes them independent of A's.

    Raises:
        ValueError: if one is no report of this version; the message says what to do.
    """
    for name, report in (('A', a), ('B', b)):
        _check(name, report)
    paired = _is_paired(a, b)
    replicates = min(report['bootstrap']['replicates'] for report in (a, b))
    shown = [m for m in METRICS.values() if any(known(r['metrics'].get(m.name)) for r in (a, b))]
    tests = {m.name: _test(a, b, m, paired, replicates) for m in shown}
    found = {name: test for name, test in tests.items() if test is not None}
    corrected = dict(zip(found, holm([test.p for test in found.values()]), strict=True))
    return Comparison(
        paired=paired,
        alpha=ALPHA,
        replicates=replicates,
        metrics=tuple(_metric(a, b, m, tests[m.name], corrected.get(m.name)) for m in shown),
        settings=_settings(a, b),
        warnings=tuple(_warnings(a, b, paired)),
        notes=tuple(_notes(paired, replicates, len(found))),
    )


def write_comparison(a: Mapping[str, Any], b: Mapping[str, Any], output: Path) -> dict[str, Any]:
    """Write comparison.html and comparison.json of two reports into a folder, made if missing.

    Both appear only when both are complete.

    Returns:
        What comparison.json holds.

    Raises:
        ValueError: if one is no report of this version; the message says what to do.
        OSError: if the folder cannot be written.
    """
    comparison = compare(a, b)
    content = {
        'version': REPORT_VERSION,
        'a': {'title': a['title'], 'created': a['created']},
        'b': {'title': b['title'], 'created': b['created']},
        **dataclasses.asdict(comparison),
    }
    page = _page(a, b, comparison)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.comparison-', dir=output) as name:
        text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
        (Path(name) / 'comparison.json').write_text(text + '\n', encoding='utf-8')
        (Path(name) / 'comparison.html').write_text(page, encoding='utf-8')
        for file in ('comparison.html', 'comparison.json'):
            os.replace(Path(name) / file, output / file)
    return content


def _check(name: str, report: Any) -> None:
    """Raise ValueError unless this is a report.json of the version that is read here."""
    if not isinstance(report, dict) or not {'version', 'metrics', 'bootstrap'} <= report.keys():
        raise ValueError(f'{name} is no report.json of an evaluation: give the file it wrote')
    again = 'evaluate the drive again with this software'
    if report['version'] != REPORT_VERSION:
        raise ValueError(
            f'{name} is a report of version {report["version"]!r}, but only version '
            f'{REPORT_VERSION} can be compared: {again}'
        )
    bad = [
        key
        for key, kind in _REQUIRED.items()
        if key not in report or not isinstance(report[key], kind)
    ]
    bad += [f'bootstrap.{k}' for k in _BOOTSTRAP if not bad and k not in report['bootstrap']]
    if bad:
        raise ValueError(f'{name} is damaged, it lacks {", ".join(bad)}: {again}')
    replicates = report['bootstrap']['replicates']
    for metric, values in report['bootstrap']['values'].items():
        if len(values) != replicates:
            raise ValueError(
                f'{name} is damaged, it has {len(values)} replicates of {metric} instead of '
                f'{replicates}: {again}'
            )
    for metric, value in report['metrics'].items():
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
            raise ValueError(
                f'{name} is damaged, {value!r} as {metric} is no finite number: {again}'
            )


def _is_paired(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    keys = ('frames_sha256', 'unit', 'replicates')
    return all(a['bootstrap'][key] == b['bootstrap'][key] for key in keys)


def _test(
    a: Mapping[str, Any], b: Mapping[str, Any], metric: Metric, paired: bool, replicates: int
) -> Difference | None:
    """Return the tested difference; None where one report has no replicates of the metric."""
    if not all(known(report['metrics'].get(metric.name)) for report in (a, b)):
        return None
    draws = [_replicates(report, metric.name, replicates) for report in (a, b)]
    if any(draw is None for draw in draws):
        return None
    first, second = (np.asarray(draw, np.float64) for draw in draws)
    if not paired:
        second = np.random.default_rng(_SEED).permutation(second)
    return difference(first, second)


def _replicates(report: Mapping[str, Any], name: str, count: int) -> NDArray[np.float64] | None:
    values = report['bootstrap']['values'].get(name)
    if values is None:
        return None
    return np.array([np.nan if v is None else v for v in values[:count]], np.float64)


def _metric(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    metric: Metric,
    test: Difference | None,
    p_holm: float | None,
) -> MetricComparison:
    values = [report['metrics'].get(metric.name) for report in (a, b)]
    change = None if None in values else float(values[1] - values[0])
    return MetricComparison(
        name=metric.name,
        a=values[0],
        b=values[1],
        a_interval=_interval(a, metric.name),
        b_interval=_interval(b, metric.name),
        difference=change,
        interval=None if test is None else (test.low, test.high),
        p=None if test is None else test.p,
        p_holm=p_holm,
        verdict=_verdict(metric, change, p_holm),
    )


def _interval(report: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    interval = report['intervals'].get(name)
    if interval is None or not all(known(end) for end in interval):
        return None
    return float(interval[0]), float(interval[1])


def _verdict(metric: Metric, change: float | None, p_holm: float | None) -> Verdict:
    if change is None or p_holm is None:
        return 'not tested'
    if p_holm > ALPHA or change == 0:
        return 'no significant difference'
    if metric.better is None:
        return 'different'
    return 'better' if (change > 0) == (metric.better == 'higher') else 'worse'


def _settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Setting, ...]:
    rows = zip(_setting_texts(a).items(), _setting_texts(b).values(), strict=True)
    return tuple(Setting(name, first, second) for (name, first), second in rows)


def _setting_texts(report: Mapping[str, Any]) -> dict[str, str]:
    source, truth = report['source'], _truth(report)
    rate = report['rate_hz']
    texts = {
        'Title': report['title'],
        'Model': report['model'],
        'Model SHA-256': report['model_sha256'],
        'Backend': report['backend'],
        'Software': report['software'],
        'Mode': report['mode'],
        'Frame rate': f'{rate:.4g} Hz' if known(rate) else None,
        'Bag': source.get('bag'),
        'Camera': source.get('camera'),
        'Ground truth': truth.get('name'),
        'Label format': truth.get('format'),
        'Frames': formats.count(report['frames']),
        'Frames with truth': formats.count(report['truth_frames']),
        'Frames SHA-256': report['bootstrap']['frames_sha256'],
        'Complete': 'yes' if report['complete'] else 'no',
        'Created': report['created'],
    }
    return {name: str(value) if value else formats.NOTHING for name, value in texts.items()}


def _truth(report: Mapping[str, Any]) -> Mapping[str, Any]:
    return report['source'].get('truth') or {}


def _warnings(a: Mapping[str, Any], b: Mapping[str, Any], paired: bool) -> list[str]:
    warnings = []
    if a['mode'] != b['mode']:
        warnings.append(
            f'Different modes ({a["mode"]} and {b["mode"]}): speed, drops and age are not measured '
            f'alike. Evaluate both in the same mode.'
        )
    if a['bootstrap']['frames_sha256'] != b['bootstrap']['frames_sha256']:
        warnings.append(
            'Different frames: the bags differ, or other frames of them got a mask or a truth. A '
            'difference may come from that instead of the models.'
        )
    elif not paired:
        warnings.append(
            'The same frames, but resampled in different ways: their differences are tested as if '
            'the frames were different, which finds less.'
        )
    formats_used = [_truth(report).get('format') for report in (a, b)]
    if None not in formats_used and formats_used[0] != formats_used[1]:
        warnings.append(
            f'Different label formats ({formats_used[0]} and {formats_used[1]}): make sure that '
            f'both were recognised rightly, else the accuracies are not comparable.'
        )
    elif bool(a['truth_frames']) != bool(b['truth_frames']):
        name = 'B' if a['truth_frames'] else 'A'
        warnings.append(f'{name} has no ground truth: accuracy cannot be compared.')
    elif a['truth_frames'] != b['truth_frames']:
        warnings.append(
            f'Accuracy is over different numbers of frames with truth '
            f'({a["truth_frames"]} and {b["truth_frames"]}).'
        )
    if a['mode'] == b['mode'] == 'replay' and a['rate_hz'] != b['rate_hz']:
        warnings.append('Replayed at different rates: speed and drops are not comparable.')
    for name, report in (('A', a), ('B', b)):
        if not report['complete']:
            warnings.append(f'{name} is incomplete: only a part of its drive was evaluated.')
    return warnings


def _notes(paired: bool, replicates: int, tests: int) -> list[str]:
    pairing = (
        'Both reports are of the same frames: each replicate resamples them alike in A and B, so '
        'that what makes a frame hard for both cancels out (paired).'
        if paired
        else 'The reports are of different frames: their replicates are combined independently '
        '(unpaired), which needs larger differences.'
    )
    notes = [
        pairing,
        f'Two-sided bootstrap p-values of {replicates} replicates, corrected by Holm for the '
        f'{tests} metrics tested; significant at {ALPHA:g}.',
        'Significant does not mean large: a difference that is the same in every frame is found '
        'however small it is. Look at the difference and its interval.',
        'No significant difference does not mean that both are equal: the interval says how large '
        'a difference may still be.',
        'The tests are about the frames, not about the machine: a load that was there in one run '
        'only looks like a real difference in speed. Compare speed on one idle machine.',
    ]
    if tests and smallest_p(replicates, tests) > ALPHA:
        notes.append(
            f'{replicates} replicates are too few to find anything significant among {tests} '
            f'metrics: evaluate with at least {math.ceil(2 * tests / ALPHA)}.'
        )
    return notes


@dataclass(frozen=True)
class _Row:
    """One row of the table of metrics, as text."""

    title: str
    direction: str
    a: str
    a_interval: str
    b: str
    b_interval: str
    difference: str
    interval: str
    forest: tuple[float, float, float] | None
    p: str
    verdict: str
    style: str


def _page(a: Mapping[str, Any], b: Mapping[str, Any], comparison: Comparison) -> str:
    titles: dict[str, list[str]] = {name: [] for name in _HEADINGS}
    for metric in comparison.metrics:
        titles[metric.verdict].append(METRICS[metric.name].title)
    return (
        environment()
        .get_template('comparison.html.j2')
        .render(
            a=a,
            b=b,
            comparison=comparison,
            verdicts=[(_HEADINGS[name], found) for name, found in titles.items() if found],
            rows=[_row(metric) for metric in comparison.metrics],
            plots=comparison_plots(a, b),
        )
    )


def _row(compared: MetricComparison) -> _Row:
    metric = METRICS[compared.name]
    # One digit more than in a report: small differences are what this page is about.
    fine = metric.format.finer()
    finest = metric.format.finer(_largest(compared))
    directions = {'higher': 'higher is better', 'lower': 'lower is better', None: ''}
    return _Row(
        title=metric.title,
        direction=directions[metric.better],
        a=fine(compared.a),
        a_interval=fine.interval(compared.a_interval),
        b=fine(compared.b),
        b_interval=fine.interval(compared.b_interval),
        difference=finest.signed(compared.difference),
        interval=finest.interval(compared.interval),
        forest=_forest(compared),
        p='' if compared.p_holm is None else f'{compared.p_holm:.3f}',
        verdict=compared.verdict,
        style=_STYLES[compared.verdict],
    )


def _largest(compared: MetricComparison) -> float:
    return max(abs(value) for value in (compared.difference or 0.0, *(compared.interval or ())))


def _forest(compared: MetricComparison) -> tuple[float, float, float] | None:
    """Return low, difference and high in percent of a line whose middle is zero."""
    if compared.interval is None or compared.difference is None:
        return None
    low, high = compared.interval
    reach = 1.1 * _largest(compared)
    if reach == 0.0:
        return None
    low, middle, high = (50 + 50 * value / reach for value in (low, compared.difference, high))
    return low, middle, high
