from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nightseg_ros.core.labels import NAMES
from training.data.frames import Sample
from training.data.labelled_set import LabelledFrames
from training.data.relight import LAMP_COLORS
from training.data.relight import Relight
from training.data.relight import _blur
from training.data.relight import _forward_motion
from training.data.relight import sky_share

# NaN becomes uint8 with a warning only.
pytestmark = pytest.mark.filterwarnings('error::RuntimeWarning')

SEEDS = range(12)
SKY = NAMES.index('sky')


def relit(sample: Sample, seed: int, relight: Relight | None = None) -> Sample:
    return (relight or Relight())(sample, np.random.default_rng(seed))


@pytest.mark.parametrize('seed', SEEDS)
def test_labels_stay_and_the_frame_keeps_its_form(day: Sample, seed: int) -> None:
    before = day.image.copy(), day.labels.copy()
    night = relit(day, seed)
    assert night.labels is day.labels
    assert night.image.shape == day.image.shape
    assert night.image.dtype == np.uint8
    np.testing.assert_array_equal(day.image, before[0])
    np.testing.assert_array_equal(day.labels, before[1])


def test_seed_decides(day: Sample) -> None:
    np.testing.assert_array_equal(relit(day, 4).image, relit(day, 4).image)
    assert (relit(day, 4).image != relit(day, 5).image).mean() > 0.5


@pytest.mark.parametrize('seed', SEEDS)
def test_night_is_darker_than_day(day: Sample, seed: int) -> None:
    assert relit(day, seed).image.mean() < 0.8 * day.image.mean()


def test_most_nights_are_less_than_half_as_bright(day: Sample) -> None:
    nights = [relit(day, seed).image.mean() for seed in SEEDS]
    assert np.median(nights) < 0.5 * day.image.mean()


@pytest.mark.parametrize('seed', SEEDS)
def test_sky_goes_dark(day: Sample, seed: int) -> None:
    sky = day.labels == SKY
    assert relit(day, seed).image[sky].mean() < 0.8 * day.image[sky].mean()


def test_day_sky_is_the_brightest_region_and_night_sky_is_not(day: Sample) -> None:
    sky, road = day.labels == SKY, day.labels == 0
    assert day.image[sky].mean() > day.image[road].mean()
    darker = [
        image[sky].mean() < image[road].mean()
        for image in (relit(day, seed, Relight(haze=0)).image for seed in SEEDS)
    ]
    assert np.mean(darker) > 0.5


@pytest.mark.parametrize(
    'relabel',
    [
        pytest.param(lambda labels: np.full_like(labels, 255), id='all ignored'),
        pytest.param(lambda labels: np.full_like(labels, SKY), id='all sky'),
        pytest.param(lambda labels: np.full_like(labels, 2), id='all building'),
        pytest.param(lambda labels: np.full_like(labels, 13), id='all car'),
        pytest.param(lambda labels: np.where(labels == SKY, 255, labels), id='no sky'),
        pytest.param(lambda labels: np.where(labels == 2, 8, labels), id='no building'),
    ],
)
def test_any_labels_make_a_night(day: Sample, relabel: Callable[[np.ndarray], np.ndarray]) -> None:
    sample = Sample(day.image, relabel(day.labels).astype(np.uint8))
    for seed in SEEDS:
        night = relit(sample, seed)
        assert night.labels is sample.labels
        assert night.image.mean() < 0.8 * day.image.mean()


@pytest.mark.parametrize('size', [(64, 64), (33, 47), (64, 200), (17, 16)])
def test_small_and_odd_sizes(street: Callable[..., Sample], size: tuple[int, int]) -> None:
    for seed in SEEDS:
        assert relit(street(*size), seed).image.shape == (*size, 3)


@pytest.mark.parametrize('value', [0, 255])
def test_flat_frames_have_no_nan(day: Sample, value: int) -> None:
    for seed in SEEDS:
        relit(Sample(np.full_like(day.image, value), day.labels), seed)


@given(
    labels=hnp.arrays(np.uint8, (20, 24), elements=st.sampled_from([*range(19), 255])),
    value=st.integers(0, 255),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=40, deadline=None)
def test_never_nan(labels: np.ndarray, value: int, seed: int) -> None:
    night = relit(Sample(np.full((20, 24, 3), value, np.uint8), labels), seed)
    assert night.image.shape == (20, 24, 3)


def test_labels_may_be_read_only(day: Sample) -> None:
    labels = day.labels.copy()
    labels.setflags(write=False)
    image = day.image.copy()
    image.setflags(write=False)
    relit(Sample(image, labels), 0)


def test_brightness_is_what_the_camera_aims_at(day: Sample) -> None:
    dim, bright = (
        np.mean(
            [
                relit(day, seed, Relight(brightness=(aim, aim), haze=0, noise=0)).image.max(2)
                for seed in SEEDS
            ]
        )
        / 255
        for aim in (0.08, 0.3)
    )
    assert dim == pytest.approx(0.08, abs=0.05)
    assert bright == pytest.approx(0.3, abs=0.08)


def test_haze_lifts_black(day: Sample) -> None:
    for seed in SEEDS:
        veiled = relit(day, seed, Relight(brightness=(0.05, 0.05), haze=1, noise=0)).image
        clear = relit(day, seed, Relight(brightness=(0.05, 0.05), haze=0, noise=0)).image
        assert np.percentile(veiled.max(2), 1) > np.percentile(clear.max(2), 1)


def test_noise_is_optional(day: Sample) -> None:
    flat = Sample(np.full_like(day.image, 128), np.full_like(day.labels, 255))

    def roughness(noise: float) -> float:
        images = [relit(flat, seed, Relight(noise=noise)).image.astype(int) for seed in SEEDS]
        return float(np.mean([np.abs(np.diff(image, axis=1)).mean() for image in images]))

    assert roughness(0.0) < 0.5 * roughness(0.1)


def test_lamp_colours_are_light() -> None:
    assert LAMP_COLORS.dtype == np.float32
    assert LAMP_COLORS.min() > 0
    assert LAMP_COLORS.max() == 1


def test_real_day_becomes_night(shared_data: Path) -> None:
    frames = LabelledFrames(shared_data / 'campus_day', cache=False)
    day = frames[0]
    for seed in range(3):
        night = relit(day, seed)
        assert night.labels is day.labels
        assert night.image.shape == day.image.shape
        assert 0 < night.image.mean() < 0.9 * day.image.mean()


def test_motion_blur_of_lamps_in_the_dark_stays_above_zero() -> None:
    """Box filters of floats fall below zero by rounding, and the noise has a square root in it."""
    rng = np.random.default_rng(0)
    for seed in range(200):
        lamps = np.where(rng.random((40, 150, 3)) < 0.2, rng.random((40, 150, 3)) ** 8, 0)
        blurred = _blur(lamps.astype(np.float32), np.random.default_rng(seed))
        assert blurred.min() >= 0


@pytest.mark.parametrize('seed', SEEDS)
def test_motion_smears_lamps_outwards_and_keeps_their_light(seed: int) -> None:
    scene = np.zeros((120, 200, 3), np.float32)
    lamp = (90, 175)  # y, x: below and right of wherever the vehicle is heading
    scene[lamp[0] - 1 : lamp[0] + 2, lamp[1] - 1 : lamp[1] + 2] = 1
    smeared = _forward_motion(scene, np.random.default_rng(seed))
    assert smeared.min() >= 0
    assert 0.9 < smeared.sum() / scene.sum() < 1.2
    y, x = np.argwhere(smeared[..., 0] > 1e-3).T
    weights = smeared[y, x, 0]
    assert np.average(x, weights=weights) > lamp[1]
    assert np.average(y, weights=weights) > lamp[0]
    assert y.min() >= lamp[0] - 2
    assert x.min() >= lamp[1] - 2


@pytest.mark.parametrize('motion', [0.0, 1.0])
def test_nights_are_smeared_as_often_as_asked(
    day: Sample, motion: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    smeared = []
    monkeypatch.setattr(
        'training.data.relight._forward_motion', lambda scene, rng: smeared.append(1) or scene
    )
    for seed in SEEDS:
        relit(day, seed, Relight(motion=motion))
    assert len(smeared) == motion * len(SEEDS)


def test_no_rim_of_daylight_remains_where_labels_end_beside_the_sky(day: Sample) -> None:
    labels = day.labels.copy()
    rows = np.flatnonzero((labels == SKY).any(axis=1))
    edge = rows.max()
    labels[edge - 1 : edge + 1][labels[edge - 1 : edge + 1] == SKY] = NAMES.index('vegetation')
    share = sky_share(day.image, labels)
    missed = (day.labels == SKY) & (labels != SKY)
    assert missed.any()
    assert share[missed].mean() > 0.7
    assert share[day.labels == NAMES.index('building')].mean() < 0.1
    assert share[labels == SKY].min() > 0.5


def test_without_sky_nothing_is(day: Sample) -> None:
    assert not sky_share(day.image, np.zeros_like(day.labels)).any()


def test_casts_are_as_strong_as_they_are_allowed_to_be(day: Sample) -> None:
    def spread(cast: float) -> float:
        nights = [
            Relight(cast=cast, haze=0, noise=0)(day, np.random.default_rng(seed)).image
            for seed in range(12)
        ]
        ratios = [float(night[..., 0].mean() / night[..., 2].mean()) for night in nights]
        return max(ratios) / min(ratios)

    assert spread(0.0) < spread(0.7)
