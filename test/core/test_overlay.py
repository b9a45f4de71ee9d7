from __future__ import annotations

import numpy as np

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
