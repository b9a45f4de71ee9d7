from __future__ import annotations

import numpy as np
import pytest

from nightseg_ros.core.labels import PALETTE
from nightseg_ros.core.overlay import overlay


def test_colours_are_blended_and_unlabelled_pixels_stay(frame: np.ndarray) -> None:
    labels = np.zeros((32, 48), np.uint8)
    labels[:, :10] = 255
    blended = overlay(frame, labels, opacity=0.5)
    assert (blended[:, :10] == frame[:, :10]).all()
    expected = (frame[:, 10:].astype(float) + PALETTE[0]) / 2
    assert np.abs(blended[:, 10:] - expected).max() <= 1


def test_it_may_overwrite_its_input(frame: np.ndarray) -> None:
    labels = np.full((32, 48), 13, np.uint8)
    labels[3] = 255
    expected = overlay(frame, labels)
    pixels = frame.copy()
    assert overlay(pixels, labels, out=pixels) is pixels
    assert (pixels == expected).all()


@pytest.mark.parametrize('opacity', [0.0, 1.0])
def test_the_ends_of_opacity_are_the_frame_and_the_colours(
    opacity: float, frame: np.ndarray
) -> None:
    labels = np.arange(32 * 48, dtype=np.uint16).reshape(32, 48).astype(np.uint8) % 19
    expected = PALETTE[labels] if opacity else frame
    assert (overlay(frame, labels, opacity) == expected).all()
