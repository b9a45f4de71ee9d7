from __future__ import annotations

import numpy as np
import pytest

from nightseg_ros.core.labels import NAMES
from nightseg_ros.simulation.night_drive import DriveFrame
from nightseg_ros.simulation.night_drive import NightDrive

SKY, ROAD = NAMES.index('sky'), NAMES.index('road')


@pytest.fixture(scope='module')
def frames() -> list[DriveFrame]:
    """Return a minute of driving, a frame a second."""
    return list(NightDrive(320, 192, rate_hz=1.0).frames(60))


def test_any_frame_can_be_rendered_alone(frames: list[DriveFrame]) -> None:
    alone = NightDrive(320, 192, rate_hz=1.0).frame(7)
    assert (alone.night == frames[7].night).all()
    assert (alone.day == frames[7].day).all()
    assert (alone.labels == frames[7].labels).all()
    assert alone.stamp_ns == frames[7].stamp_ns == 8_000_000_000


@pytest.mark.parametrize(('width', 'height'), [(64, 64), (321, 243), (512, 320), (1280, 720)])
def test_frames_have_the_size_asked_for(width: int, height: int) -> None:
    frame = NightDrive(width, height).frame(3)
    assert frame.night.shape == frame.day.shape == (height, width, 3)
    assert frame.night.dtype == frame.day.dtype == frame.labels.dtype == np.uint8
    assert frame.labels.shape == (height, width)
    assert frame.labels.max() < len(NAMES)


def test_a_drive_meets_nearly_every_class(frames: list[DriveFrame]) -> None:
    seen = {NAMES[i] for f in frames for i in np.unique(f.labels)}
    assert {'road', 'sidewalk', 'building', 'pole', 'vegetation', 'sky'} <= seen
    assert {'person', 'rider', 'car', 'traffic light', 'traffic sign'} <= seen
    assert len(seen) >= 16


def test_the_world_is_the_right_way_up(frames: list[DriveFrame]) -> None:
    for frame in frames[::10]:
        rows = np.arange(frame.labels.shape[0])[:, None]
        sky, road = frame.labels == SKY, frame.labels == ROAD
        assert (rows * sky).sum() / sky.sum() < 0.4 * 192
        assert (rows * road).sum() / road.sum() > 0.55 * 192
        assert np.mean(frame.labels[-20:, 130:190] == ROAD) > 0.9


def test_night_is_dark_and_shines_and_shares_the_days_labels(frames: list[DriveFrame]) -> None:
    for frame in frames[::10]:
        assert frame.night.mean() < 0.6 * frame.day.mean()
        sky = frame.labels == SKY
        # Glare of lamps lies over the sky, so not all of it is dark.
        assert np.median(frame.night[sky]) < 60 < 150 < np.median(frame.day[sky])
        assert frame.night.max(axis=2).max() > 240
        assert frame.night.max(axis=2).min() < 40


def test_things_move(frames: list[DriveFrame]) -> None:
    drive = NightDrive(320, 192, rate_hz=10.0)
    first, second = drive.frame(0), drive.frame(1)
    changed = np.mean(first.labels != second.labels)
    assert 0.001 < changed < 0.2
    assert (first.night != second.night).any()


def test_seeds_are_different_streets() -> None:
    one, other = NightDrive(128, 96, seed=0).frame(0), NightDrive(128, 96, seed=1).frame(0)
    assert np.mean(one.labels != other.labels) > 0.02


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'width': 63}, 'at least 64'),
        ({'height': 0}, 'at least 64'),
        ({'rate_hz': 0.0}, 'above 0'),
    ],
)
def test_impossible_drives_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NightDrive(**arguments)
    with pytest.raises(ValueError, match='count from 0'):
        NightDrive().frame(-1)
