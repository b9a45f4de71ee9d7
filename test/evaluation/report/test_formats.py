from __future__ import annotations

import math

import pytest

from nightseg_ros.evaluation.report import formats


@pytest.mark.parametrize(
    ('number_format', 'value', 'text'),
    [
        (formats.FRACTION, 0.424, '.42'),
        (formats.FRACTION, 1.0, '1.00'),
        (formats.FRACTION, 0.0, '.00'),
        (formats.FRACTION, -0.031, '−.03'),
        (formats.FRACTION, -0.0001, '.00'),
        (formats.SMALL_FRACTION, 0.0713, '.071'),
        (formats.PERCENT, 0.123, '12.3 %'),
        (formats.PERCENT, 1.0, '100 %'),
        (formats.MILLISECONDS, 5.04, '5.0 ms'),
        (formats.MILLISECONDS, 123.4, '123 ms'),
        (formats.MILLISECONDS, 12345.6, '12346 ms'),
        (formats.MEBIBYTES, 812.4, '812 MiB'),
        (formats.RATE, 23.44, '23.4 fps'),
        (formats.FRACTION, None, '–'),
        (formats.FRACTION, math.nan, '–'),
        (formats.FRACTION, math.inf, '–'),
    ],
)
def test_numbers_are_written_to_be_read(number_format, value, text: str) -> None:
    assert number_format(value).replace('\u00a0', ' ') == text


@pytest.mark.parametrize(
    ('value', 'text'), [(0.03, '+.030'), (-0.03, '−.030'), (0.00001, '.000'), (None, '–')]
)
def test_differences_carry_their_sign(value, text: str) -> None:
    assert formats.FRACTION.finer().signed(value) == text


@pytest.mark.parametrize(
    ('interval', 'text'), [([0.38, 0.46], '[.38, .46]'), ([None, 0.4], ''), (None, ''), ([], '')]
)
def test_intervals(interval, text: str) -> None:
    assert formats.FRACTION.interval(interval) == text


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [(12.34, '12.3 s'), (245, '4 min 05 s'), (7805, '2 h 10 min'), (None, '–')],
)
def test_durations(seconds, text: str) -> None:
    assert formats.duration(seconds) == text


def test_counts_are_grouped() -> None:
    assert formats.count(1234567) == '1\u2009234\u2009567'
