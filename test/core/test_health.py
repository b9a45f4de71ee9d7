from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nightseg_ros.core import health
from nightseg_ros.core.exposure import OVER_EXPOSED
from nightseg_ros.core.exposure import UNDER_EXPOSED
from nightseg_ros.core.exposure import ExposureThresholds
from nightseg_ros.core.exposure import exposure_mask
from nightseg_ros.core.health import Health

masks = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20))
thresholds = st.tuples(st.integers(0, 100), st.integers(101, 255)).map(
    lambda pair: ExposureThresholds(pair[0] / 255, pair[1] / 255)
)


def examine(labels: np.ndarray, value: int = 100) -> Health:
    other = np.full_like(labels, value)
    return health.examine(labels, other, other, ExposureThresholds())


def test_a_collapsed_mask_is_of_one_class() -> None:
    state = examine(np.full((20, 30), 10, np.uint8))
    assert (state.dominant_class, state.dominant_share, state.unknown_ids) == (10, 1.0, 0)


def test_the_dominant_class_is_the_one_of_most_pixels() -> None:
    labels = np.full((10, 10), 2, np.uint8)
    labels[:7] = 13
    state = examine(labels)
    assert (state.dominant_class, state.dominant_share) == (13, pytest.approx(0.7))


def test_a_mask_without_any_class_says_so() -> None:
    state = examine(np.full((4, 4), 255, np.uint8))
    assert (state.dominant_class, state.dominant_share, state.unknown_ids) == (255, 1.0, 0)


@pytest.mark.parametrize(('value', 'under', 'over'), [(0, 1, 0), (128, 0, 0), (255, 0, 1)])
def test_a_blind_camera_shows_in_the_exposure(value: int, under: float, over: float) -> None:
    state = examine(np.zeros((6, 6), np.uint8), value)
    assert (state.under_exposed, state.over_exposed) == (under, over)
    assert state.mean_confidence == pytest.approx(value / 255)


@given(labels=masks, limits=thresholds)
def test_numbers_are_those_of_numpy_and_of_the_published_mask(
    labels: np.ndarray, limits: ExposureThresholds
) -> None:
    exposure = labels[::-1].copy()
    state = health.examine(labels, exposure, exposure, limits)
    published = exposure_mask(exposure, limits)
    assert state.under_exposed == pytest.approx(np.mean(published == UNDER_EXPOSED))
    assert state.over_exposed == pytest.approx(np.mean(published == OVER_EXPOSED))
    assert state.mean_confidence == pytest.approx(exposure.mean() / 255)
    assert state.dominant_share == pytest.approx(np.bincount(labels.ravel()).max() / labels.size)
    assert state.dominant_share == pytest.approx(np.mean(labels == state.dominant_class))
    assert state.unknown_ids == np.count_nonzero((labels > 18) & (labels < 255))


@given(labels=masks)
def test_unknown_ids_become_unlabelled_and_nothing_else_changes(labels: np.ndarray) -> None:
    before = labels.copy()
    cleaned = health.without_unknown_ids(labels)
    assert (cleaned == np.where(labels < 19, labels, 255)).all()
    assert cleaned.dtype == np.uint8
    assert (labels == before).all()


def test_a_large_mask_is_counted_exactly() -> None:
    labels = np.zeros((5000, 5000), np.uint8)  # more pixels than float32 counts one by one
    labels[0, 0] = 20
    assert examine(labels).unknown_ids == 1
