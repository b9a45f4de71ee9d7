from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from training.data.frames import DataError
from training.data.frames import Sample
from training.data.labelled_set import LabelledFrames
from training.evaluation.measure import MEASURING_SETS
from training.evaluation.measure import measure
from training.evaluation.measure import measure_set

ROAD_KEY = 'road_iou/motorcycle_night_dev'


class Stub:
    def __init__(self, segment_rgb) -> None:
        self.segment_rgb = segment_rgb


def sure_of(labels: np.ndarray) -> SimpleNamespace:
    return SimpleNamespace(labels=labels, confidence=np.full_like(labels, 255))


def knows_the_truth(frame: np.ndarray) -> SimpleNamespace:
    """Read the labels off the red channel of the miniature root; road where there are none."""
    labels = frame[..., 0].copy()
    labels[labels == 255] = 0
    return sure_of(np.where(labels > 18, 18, labels).astype(np.uint8))


def sees_only_road(frame: np.ndarray) -> SimpleNamespace:
    return sure_of(np.zeros(frame.shape[:2], np.uint8))


def sees_no_road(frame: np.ndarray) -> SimpleNamespace:
    return sure_of(np.full(frame.shape[:2], 11, np.uint8))


def test_truth_measures_one_whatever_it_says_where_nothing_is_labelled(mini_root: Path) -> None:
    expected = {f'miou/{name}': 1.0 for name in MEASURING_SETS} | {ROAD_KEY: 1.0}
    assert measure(Stub(knows_the_truth), mini_root) == expected


def test_only_road_by_hand(mini_root: Path) -> None:
    results = measure(Stub(sees_only_road), mini_root)
    for name in MEASURING_SETS:
        _, labels = LabelledFrames(mini_root / name)[0]
        classes = set(np.unique(labels)) - {255}
        share = (labels == 0).sum() / (labels != 255).sum()
        assert results[f'miou/{name}'] == pytest.approx(share / len(classes), abs=1e-4)
    _, labels = LabelledFrames(mini_root / 'motorcycle_night_dev', extra_labels=(253, 254))[0]
    road, counted = (labels == 0).sum(), (labels != 255).sum()
    assert 0 < road < counted
    assert results[ROAD_KEY] == pytest.approx(road / counted, abs=1e-4)


def test_no_road_measures_zero(mini_root: Path) -> None:
    assert set(measure(Stub(sees_no_road), mini_root).values()) == {0.0}


@pytest.mark.parametrize('name', [*MEASURING_SETS, 'motorcycle_night_dev'])
def test_missing_set_is_named(mini_root: Path, tmp_path: Path, name: str) -> None:
    root = Path(shutil.copytree(mini_root, tmp_path / 'root'))
    shutil.rmtree(root / name)
    with pytest.raises(DataError, match=f'{name}.* does not exist'):
        measure(Stub(knows_the_truth), root)


def test_labels_of_the_road_set_are_wrong_elsewhere(mini_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(mini_root, tmp_path / 'root'))
    shutil.rmtree(root / 'night_dev')
    shutil.copytree(root / 'motorcycle_night_dev', root / 'night_dev')
    with pytest.raises(DataError, match='253'):
        measure(Stub(knows_the_truth), root)


def write_frames(root: Path, write, good: int, bad: int) -> None:
    """Write frames whose red channel tells the labels, or always road."""
    for index in range(good + bad):
        labels = np.tile(np.array([0, 0, 2, 10], np.uint8), (8, 4))
        image = np.zeros((*labels.shape, 3), np.uint8)
        if index < good:
            image[..., 0] = labels
        write(root, f'{"good" if index < good else "bad"}_{index}', Sample(image, labels))


def test_a_mixed_set_has_an_interval_around_its_value(tmp_path: Path, write) -> None:
    write_frames(tmp_path, write, good=12, bad=12)
    found = measure_set(Stub(knows_the_truth), tmp_path)
    low, high = found.miou.interval
    assert 0.2 < low < found.miou.value < high < 0.95
    assert found.miou.frames == 24
    # Always sure, and right on half of the road-only frames and all of the others.
    assert found.ece.value == pytest.approx(0.25)
    assert found.frames[0][0].startswith('bad')
    assert found.frames[0][1] == pytest.approx((0.5 + 0 + 0) / 3)
    assert found.frames[-1][1] == 1.0


def test_frames_that_are_alike_leave_no_doubt(tmp_path: Path, write) -> None:
    write_frames(tmp_path, write, good=0, bad=8)
    found = measure_set(Stub(knows_the_truth), tmp_path)
    low, high = found.miou.interval
    assert low == pytest.approx(found.miou.value)
    assert high == pytest.approx(found.miou.value)
    assert np.isnan(found.class_iou[5])


def test_a_class_that_is_only_predicted_has_no_iou(tmp_path: Path, write) -> None:
    write_frames(tmp_path, write, good=4, bad=0)
    found = measure_set(
        Stub(lambda image: sure_of(np.full(image.shape[:2], 3, np.uint8))), tmp_path
    )
    assert np.isnan(found.class_iou[3])
    assert found.class_iou[0] == 0.0
    assert found.support[3] == 0
    # Half of the 4 frames of 8 x 16 pixels is road.
    assert found.support[0] == 4 * 8 * 16 // 2
