from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from nightseg_ros.core.labels import UNLABELLED
from training.data.frames import Sample
from training.data.occlusion import HiddenBlocks
from training.data.occlusion import OwnVehicle

SEEDS = range(12)
ALWAYS = (OwnVehicle(bonnet=1.0, handlebar=0.0), OwnVehicle(bonnet=0.0, handlebar=1.0))


@pytest.mark.parametrize('own_vehicle', ALWAYS)
@pytest.mark.parametrize('seed', SEEDS)
def test_what_is_painted_over_is_unlabelled_and_nothing_else(
    day: Sample, own_vehicle: OwnVehicle, seed: int
) -> None:
    before = day.image.copy(), day.labels.copy()
    seen = own_vehicle(day, np.random.default_rng(seed))
    changed = (seen.image != day.image).any(axis=2)
    assert changed.any()
    assert (seen.labels[changed] == UNLABELLED).all()
    relabelled = seen.labels != day.labels
    assert (seen.labels[relabelled] == UNLABELLED).all()
    np.testing.assert_array_equal(day.image, before[0])
    np.testing.assert_array_equal(day.labels, before[1])


@pytest.mark.parametrize('own_vehicle', ALWAYS)
def test_most_of_the_street_stays_in_view(day: Sample, own_vehicle: OwnVehicle) -> None:
    shares = []
    for seed in range(40):
        seen = own_vehicle(day, np.random.default_rng(seed))
        hidden = (seen.labels == UNLABELLED) & (day.labels != UNLABELLED)
        shares.append(hidden.mean())
        # No bonnet and no mirror reaches into the upper quarter.
        assert not hidden[: hidden.shape[0] // 4].any()
    assert 0.02 < np.median(shares) < 0.35


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(8, 200),
    width=st.integers(8, 200),
    seed=st.integers(0, 2**31),
    bonnet=st.booleans(),
)
def test_any_size(height: int, width: int, seed: int, bonnet: bool) -> None:
    street = Sample(np.full((height, width, 3), 90, np.uint8), np.zeros((height, width), np.uint8))
    seen = ALWAYS[0 if bonnet else 1](street, np.random.default_rng(seed))
    assert seen.image.shape == street.image.shape
    assert seen.image.dtype == seen.labels.dtype == np.uint8
    assert set(np.unique(seen.labels)) <= {0, UNLABELLED}


def test_probabilities(day: Sample) -> None:
    rng = np.random.default_rng(0)
    assert all(OwnVehicle(0, 0)(day, rng) is day for _ in range(20))
    own_vehicle = OwnVehicle(bonnet=0.2, handlebar=0.3)
    drawn = sum(own_vehicle(day, rng) is not day for _ in range(400)) / 400
    assert 0.4 < drawn < 0.6


def test_hidden_blocks_are_of_one_colour_and_the_rest_stays(day: Sample) -> None:
    hide = HiddenBlocks(probability=1.0, ratio=1.0, block=(0.2, 0.2))
    colours = set()
    for seed in SEEDS:
        image = hide(day.image, np.random.default_rng(seed))
        hidden = (image != day.image).any(axis=2)
        assert 0 < hidden.mean() < 1
        assert len(np.unique(image[hidden], axis=0)) == 1
        colours.add(tuple(image[hidden][0]))
    assert colours == {(0, 0, 0), tuple(day.image.mean(axis=(0, 1)).astype(np.uint8))}


def test_no_blocks_are_hidden_without_probability(day: Sample) -> None:
    assert HiddenBlocks(probability=0.0)(day.image, np.random.default_rng(0)) is day.image
