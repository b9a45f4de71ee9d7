from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from training.data.frames import DataError
from training.data.frames import Sample
from training.data.night_style import NightStyle
from training.data.night_style import take_amplitudes
from training.data.night_style import take_statistics


@pytest.fixture
def nights(tmp_path: Path) -> Path:
    folder = tmp_path / 'images'
    folder.mkdir()
    rng = np.random.default_rng(0)
    green = rng.integers(0, 30, (48, 64, 3), np.uint8)
    green[..., 1] += 40
    cv2.imwrite(str(folder / 'green.png'), green)
    return folder


def style(nights: Path, **arguments) -> NightStyle:
    return NightStyle([str(nights)], **{'statistics': 0.0, 'fourier': 0.0, **arguments})


def lab_mean(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).mean(axis=(0, 1))


def test_full_strength_takes_over_the_mean(day: Sample, nights: Path) -> None:
    [night] = style(nights).nights
    restyled = take_statistics(day.image, night, 1.0)
    # What leaves the gamut is cut off.
    np.testing.assert_allclose(lab_mean(restyled), lab_mean(night.image), atol=6)
    assert restyled[..., 1].mean() > restyled[..., 0].mean() + 10


def test_no_strength_keeps_the_frame(day: Sample, nights: Path) -> None:
    [night] = style(nights).nights
    assert np.abs(take_statistics(day.image, night, 0.0).astype(int) - day.image).max() <= 1


def test_own_amplitudes_keep_the_frame(day: Sample) -> None:
    restyled = take_amplitudes(day.image, day.image, 0.05)
    assert np.abs(restyled.astype(int) - day.image).max() <= 1


def test_lowest_frequency_is_the_mean_colour(day: Sample) -> None:
    night = np.full((10, 20, 3), (40, 60, 20), np.uint8)
    restyled = take_amplitudes(day.image, night, 0.001)
    # Only what is cut off at black moves the mean.
    assert np.abs(restyled.mean(axis=(0, 1)) - (40, 60, 20)).max() < 25
    assert restyled.mean() < 0.6 * day.image.mean()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(2, 40),
    width=st.integers(2, 40),
    value=st.integers(0, 255),
)
def test_any_frame_stays_a_frame(
    tmp_path_factory: pytest.TempPathFactory, seed: int, height: int, width: int, value: int
) -> None:
    folder = tmp_path_factory.mktemp('nights')
    rng = np.random.default_rng(seed)
    cv2.imwrite(str(folder / 'night.png'), rng.integers(0, 256, (16, 24, 3), np.uint8))
    flat = np.full((height, width, 3), value, np.uint8)
    for arguments in ({'statistics': 1.0}, {'fourier': 1.0, 'band': (0.005, 0.5)}):
        restyled = style(folder, **arguments)(flat, rng)
        assert restyled.shape == flat.shape
        assert restyled.dtype == np.uint8


def test_probabilities_are_kept(day: Sample, nights: Path) -> None:
    half = style(nights, statistics=0.25, fourier=0.25)
    rng = np.random.default_rng(0)
    changed = [not np.array_equal(half(day.image, rng), day.image) for _ in range(80)]
    assert 0.35 < np.mean(changed) < 0.65


def test_missing_folder_is_named_when_first_used(tmp_path: Path, day: Sample) -> None:
    missing = NightStyle([str(tmp_path / 'nowhere')], statistics=1.0)
    with pytest.raises(DataError, match='nowhere'):
        missing(day.image, np.random.default_rng(0))
