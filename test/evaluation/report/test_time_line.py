from __future__ import annotations

import re

import numpy as np
import pytest

from nightseg_ros.evaluation.report.time_line import Mark
from nightseg_ros.evaluation.report.time_line import time_line

TITLES = {
    'Exposure: share of the pixels',
    'Confidence and quality',
    'Flicker',
    'Latency [ms]',
    'Time by stage [ms]',
}


def texts(svg: str) -> list[str]:
    return re.findall(r'<text[^>]*>([^<]*)</text>', svg)


@pytest.mark.parametrize(
    ('columns', 'titles'),
    [
        (('confidence',), ['Confidence and quality']),
        (('latency_ms', 'infer_ms', 'flicker'), ['Flicker', 'Latency [ms]']),
        (('infer_ms', 'decode_ms'), ['Time by stage [ms]']),
        (('under_share', 'miou'), ['Exposure: share of the pixels', 'Confidence and quality']),
    ],
)
def test_the_time_line_has_a_panel_for_all_that_is_known(columns, titles, make_rows) -> None:
    rows = {**make_rows(), 'latency_ms': make_rows(live=True)['latency_ms']}
    kept = {name: rows[name] for name in ('index', 'time_s', 'received', *columns)}
    svg = time_line(kept, [], [], 100.0)
    found = [text for text in texts(svg) if text in TITLES]
    assert found == titles


@pytest.mark.parametrize(
    ('time', 'label'),
    [
        (np.arange(62) / 10, 'seconds since the first frame'),
        (np.arange(62) * 60.0, 'time since the first frame [min:s]'),
        (np.arange(62) % 30 / 10, 'frame (the stamps do not increase)'),
        (np.full(62, np.nan), 'frame (the stamps do not increase)'),
    ],
)
def test_the_time_axis_says_what_it_is(time, label: str, make_rows) -> None:
    svg = time_line({**make_rows(), 'time_s': time}, [Mark(3, None)], [Mark(99, 1e9)], None)
    assert label in texts(svg)
    assert 'nan' not in svg


def test_drops_and_worst_frames_are_named_only_where_there_are_any(make_rows) -> None:
    rows = make_rows()
    assert 'no mask' in texts(time_line(rows, [], [], None))
    assert 'worst frames' in texts(time_line(rows, [], [Mark(3, 0.3)], None))
    whole = texts(time_line({**rows, 'received': np.ones(62)}, [], [], None))
    assert not {'no mask', 'worst frames'} & set(whole)


def test_a_frame_between_two_drops_is_seen(make_rows) -> None:
    rows = make_rows(400)
    lonely = np.full(400, np.nan)
    lonely[200] = 0.5
    kept = {name: rows[name] for name in ('index', 'time_s', 'received')}
    svg = time_line({**kept, 'flicker': lonely}, [], [], None)
    dots = [dot for dot in re.findall(r'<use[^>]*>', svg) if 'var(--teal)' in dot]
    assert len(dots) == 1


def test_one_frame_is_enough(make_rows) -> None:
    rows = {name: values[:1] for name, values in make_rows(live=True).items()}
    assert 'Latency [ms]' in texts(time_line(rows, [Mark(0, 0.0)], [Mark(0, 0.0)], 100.0))
