from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nightseg_ros.core import exposure
from nightseg_ros.core.exposure import ExposureThresholds


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_value_channel_is_the_largest_of_the_three(rgb: np.ndarray) -> None:
    assert (exposure.value_channel(rgb) == rgb.max(axis=2)).all()


@pytest.mark.parametrize(
    ('value', 'expected'),
    [
        (0, exposure.UNDER_EXPOSED),
        (25, exposure.UNDER_EXPOSED),  # .098
        (26, exposure.NORMAL),  # .102
        (229, exposure.NORMAL),  # .898
        (230, exposure.OVER_EXPOSED),  # .902
        (255, exposure.OVER_EXPOSED),
    ],
)
def test_mask_follows_the_thresholds(value: int, expected: int) -> None:
    mask = exposure.exposure_mask(
        np.full((2, 3), value, np.uint8), ExposureThresholds(under=0.1, over=0.9)
    )
    assert (mask == expected).all()


def test_mask_is_written_where_asked() -> None:
    out = np.full((2, 2), 9, np.uint8)
    assert exposure.exposure_mask(np.zeros((2, 2), np.uint8), ExposureThresholds(), out) is out
    assert (out == exposure.UNDER_EXPOSED).all()


@pytest.mark.parametrize(('under', 'over'), [(0.5, 0.5), (0.9, 0.1), (-0.1, 0.5), (0.1, 1.1)])
def test_thresholds_that_contradict_are_refused(under: float, over: float) -> None:
    with pytest.raises(ValueError, match='under < over'):
        ExposureThresholds(under, over)


def test_ten_equal_bins_the_last_closed_at_one() -> None:
    values = np.arange(256, dtype=np.uint8)[None]
    bins = exposure.exposure_bins(values)[0]
    assert bins[0] == 0
    assert bins[255] == 9
    assert set(bins) == set(range(10))
    expected = np.minimum((np.arange(256) / 255 * 10 + 1e-9).astype(int), 9)
    assert (bins == expected).all()
