from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from nightseg_ros.evaluation.flicker import Flicker
from nightseg_ros.evaluation.flicker import Glimpse

STEP_NS = 100_000_000


@pytest.fixture
def scene(shared_data: Path) -> np.ndarray:
    path = sorted((shared_data / 'campus_day' / 'images').iterdir())[0]
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def glimpse(index: int, image: np.ndarray, labels: np.ndarray) -> Glimpse:
    return Glimpse.of(index * STEP_NS, np.ascontiguousarray(image), labels)


def blocks(height: int, width: int) -> np.ndarray:
    """Return labels in blocks of 40 pixels."""
    y, x = np.mgrid[:height, :width] // 40
    return ((x * 7 + y * 3) % 19).astype(np.uint8)


def test_a_scene_that_moves_does_not_flicker(scene: np.ndarray) -> None:
    labels = blocks(*scene.shape[:2])
    flicker = Flicker()
    for index in range(4):
        shift = 6 * index
        view = np.s_[:400, shift : shift + 560]
        compared, changed = flicker.update(
            glimpse(index, scene[view], np.ascontiguousarray(labels[view]))
        )
        if index:
            assert compared > 0.8 * 186 * 133
            # Without the flow a sixth of each block would have changed.
            assert changed / compared < 0.05


def test_labels_that_jump_do(scene: np.ndarray) -> None:
    flicker = Flicker()
    labels = np.zeros(scene.shape[:2], np.uint8)
    flicker.update(glimpse(0, scene, labels))
    half = labels.copy()
    half[: len(half) // 2] = 5
    compared, changed = flicker.update(glimpse(1, scene, half))
    assert changed / compared == pytest.approx(0.5, abs=0.02)


def test_what_cannot_be_compared_is_not(scene: np.ndarray) -> None:
    labels = np.zeros(scene.shape[:2], np.uint8)
    flicker = Flicker()
    assert flicker.update(glimpse(10, scene, labels)) == (0, 0)  # the first
    assert flicker.update(glimpse(16, scene, labels)) == (0, 0)  # after a gap
    assert flicker.update(glimpse(2, scene, labels)) == (0, 0)  # a bag that loops
    assert flicker.update(glimpse(3, scene[:300], labels[:300])) == (0, 0)  # another size
    assert flicker.update(glimpse(4, scene[:300], labels[:300]))[0] > 0
    dark, _ = flicker.update(glimpse(5, np.zeros_like(scene[:300]), labels[:300]))
    assert dark < 0.3 * 213 * 100  # what was lit a moment ago came from nowhere


@pytest.mark.parametrize('size', [(1, 1), (4, 2000), (2000, 4), (11, 300)])
def test_tiny_images_are_not_compared(size: tuple[int, int]) -> None:
    flicker = Flicker()
    for index in range(2):
        image = np.zeros((*size, 3), np.uint8)
        assert flicker.update(glimpse(index, image, np.zeros(size, np.uint8))) == (0, 0)
