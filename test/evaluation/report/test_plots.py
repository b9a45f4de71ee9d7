from __future__ import annotations

import re

import numpy as np

from nightseg_ros.evaluation.report import plots


def texts(svg: str) -> list[str]:
    return re.findall(r'<text[^>]*>([^<]*)</text>', svg)


def test_one_slow_frame_does_not_flatten_the_rest() -> None:
    percentiles = {'p50': 10.0, 'p95': 12.0, 'p99': 900.0}
    values = np.append(np.linspace(9, 12, 200), 1000.0)
    ticks = texts(plots.latency_distribution(values, percentiles))
    assert {'10', '100', '1000'} <= set(ticks)
    assert '1000' not in texts(plots.latency_distribution(values[:-1], percentiles))


def test_names_are_not_taken_for_mathematics() -> None:
    values = {'p50': 1.0, 'p95': 2.0, 'p99': 3.0}
    svg = plots.ranges([('a $\\frac{$ <b>', values), ('c', values)], 100.0)
    assert 'a $\\frac{$ &lt;b&gt;' in svg


def test_plots_take_their_colours_from_the_page(make_summary) -> None:
    summary = make_summary()
    for svg in (
        plots.exposure_curves(summary['exposure_bins']),
        plots.reliability(summary['reliability']),
        plots.memory(summary['memory']['series']),
    ):
        assert not re.search(r'(fill|stroke): ?#', svg)
        assert '://' not in svg


def test_plots_are_the_same_whenever_they_are_drawn(make_summary) -> None:
    bins = make_summary()['reliability']
    assert plots.reliability(bins) == plots.reliability(bins)
