from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.data.labelled_set import LabelledFrames
from training.data.sky import mend_sky

BUILDING, POLE, VEGETATION, SKY, CAR, UNLABELLED = 2, 5, 8, 10, 13, 255


@pytest.fixture
def frame() -> tuple[np.ndarray, np.ndarray]:
    """Return a grey-blue sky over a dark wall, all of it labelled rightly."""
    image = np.full((80, 100, 3), (150, 170, 200), np.uint8)
    image[40:] = (70, 60, 50)
    labels = np.full((80, 100), SKY, np.uint8)
    labels[40:] = BUILDING
    return image, labels


def test_right_labels_stay(frame: tuple[np.ndarray, np.ndarray]) -> None:
    image, labels = frame
    assert np.array_equal(mend_sky(image, labels), labels)


def test_sky_called_leaves_becomes_sky(frame: tuple[np.ndarray, np.ndarray]) -> None:
    image, labels = frame
    truth = labels.copy()
    labels[:30, 50:] = VEGETATION
    labels[:30, 40:50] = UNLABELLED
    mended = mend_sky(image, labels)
    assert (mended == truth).mean() > 0.98


def test_poles_and_cars_before_the_sky_stay(frame: tuple[np.ndarray, np.ndarray]) -> None:
    image, labels = frame
    labels[:, 60:64] = POLE
    labels[20:40, 10:30] = CAR
    assert np.array_equal(mend_sky(image, labels), labels)


def test_what_does_not_touch_the_sky_or_lies_lower_stays(
    frame: tuple[np.ndarray, np.ndarray],
) -> None:
    image, labels = frame
    image[60:] = (150, 170, 200)  # a pond
    labels[60:] = UNLABELLED
    assert np.array_equal(mend_sky(image, labels), labels)


def test_even_white_above_is_unlabelled(frame: tuple[np.ndarray, np.ndarray]) -> None:
    image, labels = frame
    image[:40] = 250
    labels[:40] = VEGETATION  # no labelled sky to tell its colours
    mended = mend_sky(image, labels)
    assert (mended[:34] == UNLABELLED).all()
    assert np.array_equal(mended[42:], labels[42:])


def test_a_quarter_of_the_sky_of_real_days_was_denied(shared_data: Path) -> None:
    raw = LabelledFrames(shared_data / 'roadscene_day', cache=False)
    mended = LabelledFrames(shared_data / 'roadscene_day', cache=False, mend=True)
    before = after = lost = 0
    for index in range(0, len(raw), 10):
        labels = raw[index].labels
        new = mended[index].labels
        before += (labels == SKY).sum()
        after += (new == SKY).sum()
        lost += ((labels == SKY) & (new != SKY)).sum()
        things = (labels >= 11) & (labels < 19)
        assert np.array_equal(new[things], labels[things])
    assert lost == 0
    assert 1.1 < after / before < 1.6
