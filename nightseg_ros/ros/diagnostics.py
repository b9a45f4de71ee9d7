"""The node's state as ``diagnostic_msgs``: what it runs, what arrives, what is dropped and why."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus
from diagnostic_msgs.msg import KeyValue

from nightseg_ros.core.segmenter import Segmenter
from nightseg_ros.ros.statistics import Summary

HARMLESS_DROPS = ('replaced_by_newer',)
"""Reasons that only say the camera is faster than the network."""


def engine_status(name: str, segmenter: Segmenter | None, state: str) -> DiagnosticStatus:
    """Report the model and its backend."""
    status = DiagnosticStatus(name=f'{name}: engine', hardware_id=name, message=state)
    if segmenter is None:
        status.level = DiagnosticStatus.WARN
        return status
    model = segmenter.backend.model
    status.level = DiagnosticStatus.OK
    _set_values(
        status,
        {
            'model': model.name,
            'sha256': model.sha256,
            'input_size': f'{model.width}x{model.height}',
            'backend': segmenter.backend.name,
            'why': segmenter.reason,
        },
    )
    return status


def input_status(
    name: str, now: Summary, before: Summary, seconds: float, active: bool
) -> DiagnosticStatus:
    """Report arrivals and drops; what happened since ``before`` decides the level."""
    status = DiagnosticStatus(name=f'{name}: input', hardware_id=name)
    arrived = now.received - before.received
    harmful = {
        reason: count - before.dropped.get(reason, 0)
        for reason, count in now.dropped.items()
        if reason not in HARMLESS_DROPS and count > before.dropped.get(reason, 0)
    }
    if not active:
        status.level, status.message = DiagnosticStatus.OK, 'inactive'
    elif not now.received:
        status.level, status.message = DiagnosticStatus.WARN, 'waiting for the first image'
    elif not arrived:
        status.level, status.message = DiagnosticStatus.ERROR, 'stale: no image arrives any more'
    elif harmful:
        reasons = ', '.join(f'{count} {reason}' for reason, count in harmful.items())
        status.level, status.message = DiagnosticStatus.ERROR, f'dropped {reasons}'
    else:
        status.level, status.message = DiagnosticStatus.OK, 'active'
    values = {
        'received': str(now.received),
        'published': str(now.published),
        'input_hz': f'{arrived / max(seconds, 1e-6):.1f}',
        'output_hz': f'{(now.published - before.published) / max(seconds, 1e-6):.1f}',
    }
    values.update({f'dropped/{reason}': str(count) for reason, count in now.dropped.items()})
    if now.last_error:
        values['last_error'] = now.last_error
    _set_values(status, values)
    return status


def time_status(name: str, now: Summary) -> DiagnosticStatus:
    """Report the time of each stage of the frame path."""
    status = DiagnosticStatus(name=f'{name}: processing time', hardware_id=name)
    status.level = DiagnosticStatus.OK
    total = now.stages.get('total')
    status.message = f'p50 {total.p50:.1f} ms, p99 {total.p99:.1f} ms' if total else 'no frame yet'
    values = {}
    for stage, percentiles in now.stages.items():
        for percentile, value in percentiles._asdict().items():
            values[f'{stage}_ms/{percentile}'] = f'{value:.2f}'
    _set_values(status, values)
    return status


def _set_values(status: DiagnosticStatus, values: dict[str, str]) -> None:
    status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
