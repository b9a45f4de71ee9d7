from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from nightseg_ros.core.bootstrap import REPLICATES
from nightseg_ros.core.bootstrap import Bootstrap
from nightseg_ros.core.bootstrap import interval
from nightseg_ros.core.bootstrap import mean_replicates
from nightseg_ros.core.bootstrap import percentile_replicates
from nightseg_ros.core.bootstrap import unit_key
from nightseg_ros.core.bootstrap import weights


def keys(count: int, drive: str = 'drive') -> list[int]:
    return [unit_key(drive, stamp) for stamp in range(count)]


def test_weights_are_poisson_and_of_their_key_alone() -> None:
    drawn = np.stack([weights(key) for key in keys(400)]).astype(float)
    assert drawn.mean() == pytest.approx(1.0, abs=0.01)
    assert drawn.var() == pytest.approx(1.0, abs=0.02)
    assert (drawn == 0).mean() == pytest.approx(np.exp(-1), abs=0.005)
    # Neither frames nor replicates resemble one another.
    for table in (drawn, drawn.T):
        correlation = np.corrcoef(table[:100])
        assert np.abs(correlation[~np.eye(100, dtype=bool)]).mean() < 0.05
    assert (weights(keys(1)[0]) == drawn[0]).all()


def test_frames_of_a_stretch_are_resampled_together() -> None:
    second = 1_000_000_000
    first, same, other = (unit_key('a', stamp, second) for stamp in (0, second - 1, second))
    assert first == same != other
    assert unit_key('b', 0, second) != first


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 10**9), min_size=3, max_size=3), max_size=70),
    st.integers(0, 70),
)
def test_sums_are_exact_however_frames_are_split(vectors, cut) -> None:
    whole, first, second = Bootstrap(3), Bootstrap(3), Bootstrap(3)
    expected = np.zeros((REPLICATES, 3))
    for index, (key, vector) in enumerate(zip(keys(len(vectors)), vectors, strict=True)):
        array = np.array(vector)
        whole.add(key, array)
        (first if index < cut else second).add(key, array)
        expected += np.outer(weights(key).astype(float), array)
    assert (whole.sums == expected).all()
    assert (first.sums + second.sums == expected).all()


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    values = np.random.default_rng(0).normal(size=500)
    bootstrap = Bootstrap(2)
    for key, value in zip(keys(500), values, strict=True):
        bootstrap.add(key, np.array([round(value * 1e6), 1]))
    total, count = bootstrap.sums.T
    low, high = interval(total / count / 1e6)
    error = 1.96 * values.std() / np.sqrt(500)
    assert (low, high) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.02)


def test_an_interval_of_little_is_none() -> None:
    assert interval(np.array([1.0, np.nan, np.nan])) is None
    assert interval(np.array([1.0, 1.0, np.nan])) == (1.0, 1.0)


def test_percentiles_of_latency() -> None:
    values = np.arange(1.0, 201.0)
    found = percentile_replicates(values, keys(200), [50, 99])
    assert found.shape == (2, REPLICATES)
    assert np.median(found[0]) == pytest.approx(100, abs=2)
    assert np.median(found[1]) == pytest.approx(198, abs=2)
    # The 50 % point of 200 evenly spread values varies by about 200 * 0.5 / sqrt(200).
    assert found[0].std() == pytest.approx(7.07, abs=1.5)
    assert not np.isnan(found).any()


def test_means_are_those_of_weighted_sums() -> None:
    values = np.random.default_rng(0).random(60)
    bootstrap = Bootstrap(2)
    for key, value in zip(keys(60), values, strict=True):
        bootstrap.add(key, np.array([round(value * 1e9), 1]))
    total, count = bootstrap.sums.T
    np.testing.assert_allclose(mean_replicates(values, keys(60)), total / count / 1e9, rtol=1e-6)
