from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.checkpoint import load_method
from training.data.frames import DataError
from training.data.labelled_set import LabelledFrames
from training.pseudo_label import class_thresholds
from training.pseudo_label import predict
from training.pseudo_label import pseudo_label
from training.pseudo_label import shows_texture

UNLABELLED = 255


def test_thresholds_keep_each_class_by_hand() -> None:
    labels = np.array([[0] * 8, [18] * 4 + [UNLABELLED] * 4], np.uint8)
    labels[labels == UNLABELLED] = 0
    confidence = np.array([[250] * 8, [10, 20, 30, 40, 250, 250, 250, 250]], np.uint8)
    thresholds = class_thresholds([(labels, confidence)], keep=0.75, sure=0.9)
    assert thresholds[0] == round(0.9 * 255)  # common and sure: nobody is asked to be surer
    assert thresholds[18] == 20  # rare: its best three of four


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 1.0))
def test_no_class_loses_more_than_its_share(seed: int, keep: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (20, 20), dtype=np.uint8)
    confidence = rng.integers(0, 256, (20, 20), dtype=np.uint8)
    thresholds = class_thresholds([(labels, confidence)], keep, sure=1.0)
    for k in range(3):
        of_class = confidence[labels == k]
        assert (of_class >= thresholds[k]).mean() >= keep
        if thresholds[k] < 255:
            assert (of_class > thresholds[k]).mean() < keep


def test_a_mirrored_frame_gets_mirrored_labels(trained: Path) -> None:
    method = load_method(trained / 'last.ckpt')
    image = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
    labels, confidence = predict([method], image, [(64, 128), (128, 128)])
    other_way = np.ascontiguousarray(image[:, ::-1])
    mirrored, sure = predict([method], other_way, [(64, 128), (128, 128)])
    assert (mirrored[:, ::-1] == labels).mean() > 0.999
    assert abs(sure[:, ::-1].astype(int) - confidence).max() <= 1


def test_labels_can_be_trained_on(trained: Path, data_root: Path, tmp_path: Path) -> None:
    output = tmp_path / 'labels'
    folders = [data_root / 'campus_night', data_root / 'roadscene_night']
    checkpoints = [trained / 'last.ckpt', trained / 'last.ckpt']
    pseudo_label(checkpoints, folders, output, sizes=[(64, 128)], keep=0.5, sure=1.0)
    for folder in folders:
        assert cv2.imread(str(output / f'{folder.name}.jpg')) is not None
        frames = LabelledFrames(folder, labels=output / folder.name)
        image, labels = frames[0]
        assert labels.shape == image.shape[:2]
        assert 0.4 < (labels != UNLABELLED).mean() < 0.9


def test_noise_is_no_texture_and_leaves_are() -> None:
    rng = np.random.default_rng(0)
    image = (60 + rng.standard_normal((120, 160, 3))).round().astype(np.uint8)
    leaves = cv2.resize(rng.integers(20, 100, (30, 20), dtype=np.uint8), (80, 120))
    image[:, 80:] = leaves[..., None]
    textured = shows_texture(image)
    assert not textured[:, :70].any()
    assert textured[:, 90:].mean() > 0.95


@pytest.mark.parametrize('keep', [0.0, 1.2])
def test_keeping_nothing_is_refused(trained: Path, keep: float) -> None:
    with pytest.raises(DataError, match='keep is the share'):
        pseudo_label([trained / 'last.ckpt'], keep=keep)
