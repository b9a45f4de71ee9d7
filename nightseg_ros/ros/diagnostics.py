"""The node's state as ``diagnostic_msgs``: what it runs, what arrives, what is dropped and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus
from diagnostic_msgs.msg import KeyValue

from nightseg_ros.core.labels import NAMES
from nightseg_ros.core.memory import resident_mib
from nightseg_ros.core.segmenter import Segmenter
from nightseg_ros.ros.engine_loader import Loading
from nightseg_ros.ros.parameters import Settings
from nightseg_ros.ros.qos import QosEvents
from nightseg_ros.ros.statistics import Summary

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

HARMLESS_DROPS = ('replaced_by_newer',)
"""Reasons that only say the camera is faster than the network."""

MAX_GROWTH_MIB = 512.0
"""Resident memory may grow by so much after the first frames before it is called a leak."""


@dataclass(frozen=True)
class Interval:
    """Since the last report, in seconds.

    Attributes:
        node: on the node's clock: with simulation time rates are those of the drive.
        now: time.monotonic() at its end.
    """

    node: float
    now: float


def engine_status(
    name: str, state: str, segmenter: Segmenter | None, loading: Loading | None, failure: str
) -> DiagnosticStatus:
    """Report the model, its backend and what is being loaded.

    Args:
        name: of the node.
        state: of its lifecycle.
        segmenter: that makes the masks.
        loading: what is being loaded.
        failure: why the last loading failed, or ''.
    """
    values: dict[str, str] = {}
    if segmenter is not None:
        backend = segmenter.backend
        values = {
            'model': backend.model.name,
            'sha256': backend.model.sha256,
            'input_size': f'{backend.model.width}x{backend.model.height}',
            'backend': backend.name,
            'precision': backend.precision,
            'why': segmenter.reason,
            'self_check': segmenter.self_check,
            **backend.describe(),
        }
    level, message = OK, state
    if loading is not None:
        level, message = WARN, f'loading for {loading.elapsed_s:.0f} s: {loading.doing}'
        values['loading'] = loading.doing
        values['loading_s'] = f'{loading.elapsed_s:.1f}'
    elif failure:
        level = ERROR
        kept = ', the previous one drives on' if segmenter else ''
        message = f'the last loading failed{kept}: {failure}'
    elif segmenter is None:
        level = WARN
    return _status(f'{name}: engine', name, level, message, values)


def input_status(
    name: str,
    listening: str,
    now: Summary,
    before: Summary,
    events: QosEvents,
    settings: Settings,
    interval: Interval,
) -> DiagnosticStatus:
    """Report arrivals and drops of one camera; what happened since ``before`` decides the level.

    Args:
        name: of the node, with the camera's where there are several.
        listening: '' while it is subscribed, else why it is not.
        now: counts.
        before: counts of the last report.
        events: what DDS reported.
        settings: when a camera is stale.
        interval: since the last report.
    """
    # After a reset the earlier counts are the larger ones.
    arrived = max(now.received - before.received, 0)
    published = max(now.published - before.published, 0)
    harmful = {
        reason: count - before.dropped.get(reason, 0)
        for reason, count in now.dropped.items()
        if reason not in HARMLESS_DROPS and count > before.dropped.get(reason, 0)
    }
    reasons = ', '.join(f'{count} {reason}' for reason, count in harmful.items())
    age_ms = None if now.last_arrival is None else (interval.now - now.last_arrival) * 1e3
    if listening:
        level, message = OK, listening
    elif age_ms is None:
        level, message = WARN, 'waiting for the first image'
    elif age_ms > settings.stale_after_ms:
        level, message = ERROR, f'stale: no image for {age_ms / 1e3:.1f} s'
    elif harmful and not published:
        level, message = ERROR, f'rejected: {reasons}; {now.last_error}'
    elif harmful:
        level, message = WARN, f'dropped {reasons}'
    else:
        level, message = OK, 'active'
    values = {
        'received': str(now.received),
        'published': str(now.published),
        'input_hz': _rate(arrived, interval),
        'output_hz': _rate(published, interval),
        'age_ms': 'never' if age_ms is None else f'{age_ms:.0f}',
    }
    values.update({f'dropped/{reason}': str(count) for reason, count in now.dropped.items()})
    values.update({f'lost/{topic}': str(count) for topic, count in events.lost().items()})
    if now.last_error:
        values['last_error'] = now.last_error
    return _status(f'{name}: input', name, level, message, values)


def qos_status(name: str, events: QosEvents) -> DiagnosticStatus:
    """Report peers whose quality of service does not fit ours."""
    mismatches = events.mismatches()
    level = ERROR if mismatches else OK
    message = f'mismatch on {", ".join(mismatches)}' if mismatches else 'all peers fit'
    return _status(f'{name}: qos', name, level, message, mismatches)


def time_status(name: str, now: Summary, settings: Settings) -> DiagnosticStatus:
    """Report the time of each stage of the frame path."""
    total = now.stages.get('total')
    level, message = OK, 'no frame yet'
    if total is not None:
        message = f'p50 {total.p50:.1f} ms, p99 {total.p99:.1f} ms'
        if total.p99 > settings.latency_error_ms:
            level, message = ERROR, f'{message}: above {settings.latency_error_ms:g} ms'
        elif total.p99 > settings.latency_warn_ms:
            level, message = WARN, f'{message}: above {settings.latency_warn_ms:g} ms'
    values = {
        f'{stage}_ms/{percentile}': f'{value:.2f}'
        for stage, percentiles in now.stages.items()
        for percentile, value in percentiles._asdict().items()
    }
    return _status(f'{name}: processing time', name, level, message, values)


def output_status(
    name: str, listening: str, now: Summary, settings: Settings, interval: Interval
) -> DiagnosticStatus:
    """Report whether masks go out while images come in, and whether they look like masks."""
    silent_s = _silence(now, interval)
    if not listening and silent_s * 1e3 > settings.stale_after_ms:
        message = f'no mask for {silent_s:.1f} s, though images arrive; {now.last_error}'
        return _status(f'{name}: output', name, ERROR, message, {})
    if not now.health:
        return _status(f'{name}: output', name, OK, 'no frame yet', {})
    count = len(now.health)
    last = now.health[-1]
    share = sum(h.dominant_share for h in now.health) / count
    unknown = sum(h.unknown_ids for h in now.health)
    dominant = NAMES[last.dominant_class] if last.dominant_class < len(NAMES) else 'unlabelled'
    if unknown:
        level, message = ERROR, f'{unknown} pixels of no class: published as unlabelled'
    elif share > settings.max_class_share:
        level, message = ERROR, f'{dominant} fills {share:.1%} of the last {count} masks'
    else:
        level, message = OK, 'plausible'
    values = {
        'dominant_class': dominant,
        'dominant_share': f'{share:.3f}',
        'mean_confidence': f'{sum(h.mean_confidence for h in now.health) / count:.3f}',
        'under_exposed_share': f'{sum(h.under_exposed for h in now.health) / count:.3f}',
        'over_exposed_share': f'{sum(h.over_exposed for h in now.health) / count:.3f}',
        'unknown_ids': str(unknown),
    }
    return _status(f'{name}: output', name, level, message, values)


def _silence(now: Summary, interval: Interval) -> float:
    """Return for how many seconds images arrived without a mask going out."""
    if now.last_arrival is None or now.last_published is None:
        return 0.0
    return min(now.last_arrival, interval.now) - now.last_published


def memory_status(name: str, baseline_mib: float | None) -> DiagnosticStatus:
    """Report the node's memory.

    Args:
        name: of the node.
        baseline_mib: resident memory after its first frames, None before.
    """
    resident = resident_mib()
    values = {'resident_mib': f'{resident:.0f}'}
    level, message = OK, f'{resident:.0f} MiB'
    if baseline_mib is not None:
        growth = resident - baseline_mib
        values['growth_mib'] = f'{growth:.0f}'
        if growth > MAX_GROWTH_MIB:
            level, message = WARN, f'{resident:.0f} MiB, {growth:.0f} more than at the start'
    return _status(f'{name}: memory', name, level, message, values)


def _rate(count: int, interval: Interval) -> str:
    return f'{count / interval.node:.1f}' if interval.node > 0 else 'the clock stands still'


def _status(
    title: str, hardware: str, level: bytes, message: str, values: Mapping[str, str]
) -> DiagnosticStatus:
    return DiagnosticStatus(
        name=title,
        hardware_id=hardware,
        level=level,
        message=message,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
