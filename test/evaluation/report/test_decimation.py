from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nightseg_ros.evaluation.report.decimation import distinct_places
from nightseg_ros.evaluation.report.decimation import envelope

VALUES = hnp.arrays(
    np.float64,
    st.integers(1, 400),
    elements=st.one_of(st.just(np.nan), st.floats(-1e6, 1e6)),
)


@given(values=VALUES, points=st.integers(3, 120))
def test_an_envelope_is_short_and_keeps_extremes_and_mean(values, points: int) -> None:
    line = envelope(np.arange(values.size, dtype=np.float64), values, points)
    if not line.decimated:
        assert values.size <= points
        np.testing.assert_array_equal(line.mean, values)
        return
    assert 3 * line.mean.size <= points
    assert np.array_equal(np.isnan(line.mean), np.isnan(line.low))
    if not np.isnan(values).all():
        assert np.nanmin(line.low) == np.nanmin(values)
        assert np.nanmax(line.high) == np.nanmax(values)
    known = ~np.isnan(line.mean)
    slack = 1e-9 * max(1.0, np.nanmax(np.abs(values), initial=0.0))
    assert (line.low[known] <= line.mean[known] + slack).all()
    assert (line.mean[known] <= line.high[known] + slack).all()
    assert (np.diff(line.time) > 0).all()


def test_a_single_spike_of_a_long_line_is_found_at_its_time() -> None:
    time, values = np.arange(100_000) / 30, np.zeros(100_000)
    values[77_777] = 9.0
    line = envelope(time, values)
    assert line.high.max() == 9.0
    assert line.time[line.high.argmax()] == pytest.approx(time[77_777], abs=time[-1] / 600)


def test_a_stretch_without_values_stays_a_gap() -> None:
    values = np.ones(9000)
    values[3000:6000] = np.nan
    line = envelope(np.arange(9000.0), values)
    assert np.isnan(line.mean).sum() == pytest.approx(line.mean.size / 3, abs=2)


@pytest.mark.parametrize(('time', 'points'), [(np.zeros(3), 9), (np.zeros(5), 2)])
def test_what_does_not_fit_is_refused(time, points: int) -> None:
    with pytest.raises(ValueError, match=r'both must be|at least 3'):
        envelope(time, np.zeros(5), points)


@given(
    # Nanoseconds as seconds: a subnormal span has no halves.
    time=hnp.arrays(
        np.float64, st.integers(1, 300), elements=st.integers(0, 10**15).map(lambda ns: ns / 1e9)
    ),
    places=st.integers(1, 50),
)
def test_distinct_places_are_few_and_near(time, places: int) -> None:
    found = distinct_places(time, places)
    assert found.size <= max(places + 1, 1)
    assert (np.diff(found) >= 0).all()
    span = float(np.ptp(time))
    distance = np.abs(time[:, None] - found[None]).min(axis=1)
    assert (distance <= span / places * 1.001).all()
