"""What a report warns of: what makes its numbers doubtful, or the masks useless."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nightseg_ros.core.labels import NUM_CLASSES
from nightseg_ros.evaluation.counts import Counts

COLLAPSED = 0.98
"""One class on more of a mask than this: the network has collapsed, or sees nothing."""

MAX_DOMINANT_SHARE = 0.9
"""One class, or "no class", on more of all pixels than this makes the report warn."""

MAX_DROPPED_SHARE = 0.05
MAX_GROWTH_MIB = 512.0


def warnings_of(summary: Mapping[str, Any], counts: Counts) -> list[str]:
    """Return the warnings of a summary, as sentences, the gravest first."""
    frames, received = summary['frames'], summary['received']
    if not frames:
        return ['There was no frame: there is nothing to judge.']
    if not received:
        return ['No mask came at all: no frame could be read, or the node did not run or failed.']
    warnings = []
    if not summary['complete']:
        warnings.append(f'The evaluation is not complete: it holds {frames} frames.')
    unreadable = sum(summary['unreadable'].values())
    if unreadable:
        reasons = ', '.join(f'{name} {count}' for name, count in summary['unreadable'].items())
        warnings.append(f'{unreadable} of {frames} images could not be used: {reasons}.')
    lost = frames - received - unreadable
    if lost / frames > MAX_DROPPED_SHARE:
        warnings.append(
            f'{_percent(lost / frames)} of the frames got no mask: the node could not keep up, or '
            'messages were lost.'
        )
    warnings += _mask_warnings(summary, counts)
    truth = summary['source']['truth']
    if truth is not None:
        warnings += _truth_warnings(truth, summary['truth_frames'])
    memory = summary['memory']
    if memory['series'] and memory['last_mib'] - memory['first_mib'] > MAX_GROWTH_MIB:
        growth = memory['last_mib'] - memory['first_mib']
        warnings.append(f'The memory of the {memory["process"]} grew by {growth:.0f} MiB.')
    return warnings


def _mask_warnings(summary: Mapping[str, Any], counts: Counts) -> list[str]:
    warnings = []
    dominant = summary['dominant_class']
    if dominant['share'] is not None and dominant['share'] > MAX_DOMINANT_SHARE:
        warnings.append(
            f'{_percent(dominant["share"])} of all pixels were predicted as "{dominant["name"]}": '
            'the masks say almost nothing.'
        )
    collapsed = summary['metrics']['collapsed_share']
    if collapsed:
        warnings.append(
            f'In {_percent(collapsed)} of the masks one class fills more than {COLLAPSED:.0%}: the '
            'network collapsed there, or the camera saw nothing.'
        )
    unclassed = float(counts.predicted[NUM_CLASSES] / counts.predicted.sum())
    if unclassed > MAX_DOMINANT_SHARE:
        warnings.append(f'{_percent(unclassed)} of all pixels were given no class.')
    return warnings


def _truth_warnings(truth: Mapping[str, Any], truth_frames: int) -> list[str]:
    warnings = []
    if not truth['matched']:
        warnings.append(
            f'No label of {truth["name"]} lies within {truth["tolerance_ms"]:g} ms of an image: '
            'accuracy was not measured. Are the stamps those of the images?'
        )
    elif not truth_frames:
        warnings.append(f'No label of {truth["name"]} could be used: accuracy was not measured.')
    if truth['refused']:
        reasons = ', '.join(f'{reason} {count}' for reason, count in truth['refused'].items())
        warnings.append(f'Labels that were refused: {reasons}.')
    if truth['assumed']:
        warnings.append(
            f'The labels were taken for {truth["format"]}; nothing in them says otherwise, and '
            'nothing proves it. --label-format tells.'
        )
    return warnings


def _percent(share: float) -> str:
    return f'{share * 100:.1f} %'
