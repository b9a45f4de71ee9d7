"""report.json: what one drive, or several together, say in numbers."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from datetime import datetime
from datetime import timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nightseg_ros import __version__
from nightseg_ros.core.bootstrap import REPLICATES
from nightseg_ros.core.bootstrap import interval
from nightseg_ros.core.bootstrap import mean_replicates
from nightseg_ros.core.bootstrap import percentile_replicates
from nightseg_ros.core.bootstrap import unit_key
from nightseg_ros.core.calibration import reliability
from nightseg_ros.core.calibration import risk_coverage
from nightseg_ros.core.exposure_f1 import BIN_NAMES
from nightseg_ros.core.labels import NAMES
from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.core.segmentation_score import mean_iou
from nightseg_ros.evaluation.counts import METRICS
from nightseg_ros.evaluation.counts import Counts
from nightseg_ros.evaluation.counts import metrics
from nightseg_ros.evaluation.counts import ratio
from nightseg_ros.evaluation.drive import VIDEO
from nightseg_ros.evaluation.drive import DriveResult
from nightseg_ros.evaluation.report_warnings import COLLAPSED
from nightseg_ros.evaluation.report_warnings import warnings_of
from nightseg_ros.evaluation.rows import TIMES
from nightseg_ros.evaluation.together import Together
from nightseg_ros.evaluation.together import columns_of

VERSION = 1
"""Of report.json."""

PERCENTILES = {'p50': 50.0, 'p95': 95.0, 'p99': 99.0}
ALL_METRICS = (
    *METRICS, 'collapsed_share', 'dropped_share', 'fps', 'p50_ms', 'p95_ms', 'p99_ms', 'max_ms',
    'age_p99_ms', 'gap_p99_ms', 'peak_mib',
)  # fmt: skip
"""Names under ``metrics`` of report.json, and of ``--fail-under`` and ``--fail-over``."""

_RESAMPLED_ROWS = 20_000
"""More frames than this are so many that drops and percentiles of times need no interval."""

_RESAMPLED_TIMES = {
    'latency_ms': ('p50_ms', 'p95_ms', 'p99_ms'),
    'age_ms': ('age_p99_ms',),
    'gap_ms': ('gap_p99_ms',),
}
"""Metrics by the column that they are percentiles of."""


def summarise(together: Together, drives: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return what report.json holds; numbers are shares 0..1 unless their name has a unit.

    Args:
        together: what was evaluated.
        drives: a line for each drive of several; see `drive_line`.
    """
    results, counts = together.drives, together.counts
    now, resampled = metrics(counts.vector()), metrics(together.sums)
    columns = columns_of(results)
    latencies = latency_percentiles(columns['latency_ms'])
    frames, received = len(columns['index']), int(columns['received'].sum())
    values: dict[str, float] = {name: float(now.values[name]) for name in METRICS}
    replicates = {name: resampled.values[name] for name in METRICS}
    replicates.update(_frame_replicates(results, columns))
    memory = _memory(results)
    values.update(
        collapsed_share=_share(columns['dominant_share'] > COLLAPSED, columns['received'] > 0),
        dropped_share=1.0 - received / frames if frames else math.nan,
        fps=_frames_per_second(results),
        **{f'{name}_ms': _or_nan(latencies[name]) for name in (*PERCENTILES, 'max')},
        age_p99_ms=_or_nan(latency_percentiles(columns['age_ms'])['p99']),
        gap_p99_ms=_or_nan(latency_percentiles(columns['gap_ms'])['p99']),
        peak_mib=_or_nan(memory['peak_mib']),
    )
    facts = [result.facts for result in results]
    summary: dict[str, Any] = {
        'version': VERSION,
        'software': __version__,
        'created': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'title': facts[0].title if len(results) == 1 else f'{len(results)} drives',
        'mode': _same(f.mode for f in facts),
        'complete': all(result.seen.complete for result in results),
        'interrupted': any(result.seen.interrupted for result in results),
        'source': {
            'bag': _same(f.bag for f in facts),
            'camera': _same(f.camera for f in facts),
            'storage': _same(f.storage for f in facts),
            'ros_distro': _same(f.ros_distro for f in facts),
            'duration_s': sum(_duration_s(result) for result in results),
            'truth': _truth(results),
        },
        'fingerprint': _same(f.fingerprint for f in facts),
        'drives': list(drives),
        'model': _same(f.model for f in facts),
        'model_sha256': _same(f.model_sha256 for f in facts),
        'backend': _same(f.backend for f in facts),
        'model_card': dict(facts[0].model_card),
        'rate_hz': _rate_hz(results[0]),
        'frames': frames,
        'received': received,
        'dropped': frames - received,
        'unreadable': _total(result.seen.unreadable for result in results),
        'drops': _total(result.seen.drops for result in results),
        'truth_frames': int(columns['truth'].sum()),
        'metrics': {name: _number(values[name]) for name in ALL_METRICS},
        'intervals': _intervals(replicates),
        'classes': _classes(counts, now.class_iou, resampled.class_iou),
        'exposure_bins': _exposure_bins(counts, now.ef1, resampled.ef1),
        'reliability': _reliability(counts),
        'risk_coverage': _risk_coverage(counts),
        'confusion': counts.confusion.sum(axis=0).tolist(),
        'latency_ms': latencies,
        'age_ms': latency_percentiles(columns['age_ms']),
        'gap_ms': latency_percentiles(columns['gap_ms']),
        'stages_ms': _stages(results, columns),
        'memory': memory,
        'dominant_class': _dominant_class(counts),
        'problems': _problems(results),
        'notes': list(dict.fromkeys(note for f in facts for note in f.notes)),
        'video': VIDEO if len(results) == 1 and results[0].seen.video else None,
        'bootstrap': {
            'replicates': REPLICATES,
            'unit': f'{facts[0].unit_ns / 1e9:g} s' if facts[0].unit_ns else 'frame',
            'frames_sha256': _frames_sha256(results),
            'values': {
                name: [_number(float(f'{value:.6g}')) for value in values]
                for name, values in replicates.items()
            },
        },
    }
    summary['warnings'] = warnings_of(summary, counts)
    return summary


def latency_percentiles(latencies_ms: NDArray[np.float64]) -> dict[str, float | None]:
    """Return p50, p95, p99, max and mean in milliseconds; None each if there is no latency.

    Percentiles between two samples are interpolated linearly; NaN is left out.
    """
    values = latencies_ms[~np.isnan(latencies_ms)]
    if not values.size:
        return dict.fromkeys((*PERCENTILES, 'max', 'mean'))
    percentiles = np.percentile(values, list(PERCENTILES.values()))
    return {
        **dict(zip(PERCENTILES, percentiles.tolist(), strict=True)),
        'max': float(values.max()),
        'mean': float(values.mean()),
    }


def _frame_replicates(
    results: Sequence[DriveResult], columns: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """Return resampled numbers that come from the rows; none of very many frames."""
    if not 0 < len(columns['index']) <= _RESAMPLED_ROWS:
        return {}
    keys = [
        unit_key(result.facts.name, int(stamp), result.facts.unit_ns)
        for result in results
        for stamp in result.stamps_ns
    ]

    def known(column: str) -> tuple[NDArray[np.float64], list[int]]:
        there = np.flatnonzero(~np.isnan(columns[column]))
        return columns[column][there], [keys[index] for index in there]

    found = {'dropped_share': mean_replicates(1.0 - columns['received'], keys)}
    dominant, masked = known('dominant_share')
    if dominant.size:
        found['collapsed_share'] = mean_replicates((dominant > COLLAPSED).astype(float), masked)
    for column, names in _RESAMPLED_TIMES.items():
        times, timed = known(column)
        if times.size:
            percents = [PERCENTILES[name.split('_')[-2]] for name in names]
            found.update(zip(names, percentile_replicates(times, timed, percents), strict=True))
    return found


def _intervals(replicates: Mapping[str, NDArray[np.float64]]) -> dict[str, list[float]]:
    found = {name: interval(values) for name, values in replicates.items()}
    return {name: list(bounds) for name, bounds in found.items() if bounds is not None}


def _classes(counts: Counts, iou: NDArray, resampled: NDArray) -> list[dict[str, Any]]:
    support = counts.confusion.sum(axis=(0, 2))
    pixels = int(counts.predicted.sum())
    rows = []
    for index, name in enumerate(NAMES):
        bounds = interval(resampled[:, index]) if support[index] else None
        rows.append(
            {
                'name': name,
                'iou': _number(iou[index]),
                'interval': list(bounds) if bounds else None,
                'support_pixels': int(support[index]),
                'predicted_share': int(counts.predicted[index]) / pixels if pixels else None,
            }
        )
    return rows


def _exposure_bins(counts: Counts, ef1: NDArray, resampled: NDArray) -> list[dict[str, Any]]:
    labelled = counts.confusion.sum(axis=(1, 2))
    hits = np.diagonal(counts.confusion, axis1=1, axis2=2).sum(axis=1)
    seen, confidence = counts.confidence.T
    accuracy = ratio(hits, labelled)
    mean_confidence = ratio(confidence / 255.0, seen)
    share = ratio(seen, np.full_like(seen, seen.sum()))
    rows = []
    for g, name in enumerate(BIN_NAMES):
        bounds = interval(resampled[:, g])
        rows.append(
            {
                'range': name,
                'pixels': int(labelled[g]),
                'ef1': _number(ef1[g]),
                'interval': list(bounds) if bounds else None,
                'miou': _number(mean_iou(counts.confusion[g])),
                'accuracy': _number(accuracy[g]),
                'confidence': _number(mean_confidence[g]),
                'share': _number(share[g]),
            }
        )
    return rows


def _reliability(counts: Counts) -> list[dict[str, Any]]:
    found = reliability(counts.calibration)
    names = ('low', 'high', 'confidence', 'accuracy', 'pixels')
    columns = [getattr(found, name) for name in names]
    rows = [dict(zip(names, map(_number, row), strict=True)) for row in zip(*columns, strict=True)]
    return [{**row, 'pixels': int(row['pixels'] or 0)} for row in rows]


def _risk_coverage(counts: Counts) -> list[list[float]]:
    coverage, risk = risk_coverage(counts.calibration)
    known = ~np.isnan(risk) & (np.diff(coverage, prepend=0.0) > 0)
    return np.stack([coverage[known], risk[known]], axis=1).tolist()


def _stages(
    results: Sequence[DriveResult], columns: Mapping[str, NDArray[np.float64]]
) -> dict[str, dict[str, float | None]]:
    """Return the time of each stage: of the node (its slowest drive's), else as measured here."""
    reported = [result.seen.stages_ms for result in results if result.seen.stages_ms]
    if reported:
        stages: dict[str, dict[str, float | None]] = {}
        for name in dict.fromkeys(stage for drive in reported for stage in drive):
            drives = [drive[name] for drive in reported if name in drive]
            stages[name] = {
                percentile: max(drive[percentile] for drive in drives) for percentile in drives[0]
            }
        return stages
    measured = {
        name.removesuffix('_ms'): latency_percentiles(columns[name])
        for name in TIMES
        if name not in ('latency_ms', 'age_ms', 'gap_ms')
    }
    return {name: values for name, values in measured.items() if values['p50'] is not None}


def _memory(results: Sequence[DriveResult]) -> dict[str, Any]:
    series = [result.seen.memory for result in results if result.seen.memory]
    if not series:
        return {
            'process': results[0].seen.memory_of, 'first_mib': None, 'peak_mib': None,
            'last_mib': None, 'series': [],
        }  # fmt: skip
    longest = max(series, key=len)
    return {
        'process': results[0].seen.memory_of,
        'first_mib': longest[0][1],
        'peak_mib': max(mib for points in series for _, mib in points),
        'last_mib': longest[-1][1],
        'series': [list(point) for point in longest],
    }


def _truth(results: Sequence[DriveResult]) -> dict[str, Any] | None:
    used = [result for result in results if result.facts.truth is not None]
    if not used:
        return None
    truths = [dict(result.facts.truth or {}) for result in used]
    matched = sum(result.seen.truth_matched for result in used)
    return {
        'name': _same(truth.get('name') for truth in truths),
        'format': _same(truth.get('format') for truth in truths),
        'assumed': any(truth.get('assumed') for truth in truths),
        'tolerance_ms': truths[0].get('tolerance_ms'),
        'matched': matched,
        'unmatched': sum(result.seen.frames for result in used) - matched,
        'refused': _total(result.seen.truth_refused for result in used),
    }


def drive_line(alone: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Return what the report of several drives says of one.

    Args:
        alone: its own report.json.
        folder: where that lies, relative.
    """
    names = ('frames', 'truth_frames', 'complete', 'metrics', 'problems')
    name = f'{alone["source"]["bag"]}{alone["source"]["camera"]}'
    return {'name': name, 'folder': folder, **{name: alone[name] for name in names}}


def _dominant_class(counts: Counts) -> dict[str, Any]:
    classes = counts.predicted[:NUM_CLASSES]
    if not classes.any():
        return {'name': None, 'share': None}
    most = int(classes.argmax())
    return {'name': NAMES[most], 'share': float(classes[most] / counts.predicted.sum())}


def _problems(results: Sequence[DriveResult]) -> list[str]:
    if len(results) == 1:
        return list(results[0].seen.problems)
    return [f'{r.facts.name}: {problem}' for r in results for problem in r.seen.problems]


def _frames_sha256(results: Sequence[DriveResult]) -> str:
    """Return a digest of which frames were compared with a truth, and of which there are masks."""
    digests = []
    for result in results:
        digest = hashlib.sha256(result.facts.name.encode())
        used = [result.columns[name].astype(np.uint8) for name in ('received', 'truth')]
        for array in (result.stamps_ns, *used):
            digest.update(np.ascontiguousarray(array).tobytes())
        digests.append(digest.digest())
    return hashlib.sha256(b''.join(sorted(digests))).hexdigest()


def _duration_s(result: DriveResult) -> float:
    stamps = result.stamps_ns
    return float((stamps.max() - stamps.min()) / 1e9) if stamps.size else 0.0


def _rate_hz(result: DriveResult) -> float | None:
    if result.facts.rate_hz is not None:
        return result.facts.rate_hz
    duration = _duration_s(result)
    return (len(result.stamps_ns) - 1) / duration if duration > 0 else None


def _frames_per_second(results: Sequence[DriveResult]) -> float:
    seconds = sum(result.seen.wall_s for result in results)
    frames = sum(int(result.columns['received'].sum()) for result in results)
    return frames / seconds if seconds > 0 else math.nan


def _share(true: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    return float(true[among].mean()) if among.any() else math.nan


def _total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total.most_common())


def _same(values: Iterable[Any]) -> Any:
    """Return what all have in common, else what there is, joined."""
    different = list(dict.fromkeys(values))
    if len(different) == 1:
        return different[0]
    named = [str(value) for value in different if value is not None]
    return f'{len(named)} different' if len(named) > 3 else ', '.join(named)


def _number(value: float) -> float | None:
    """Return a value as JSON can hold it: None for NaN."""
    return None if math.isnan(value) else float(value)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
