from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from nightseg_ros.core import exposure
from nightseg_ros.core.exposure import ExposureThresholds
from nightseg_ros.core.segmenter import MaskMemory
from nightseg_ros.core.segmenter import Segmenter


@pytest.fixture
def segmenter(channel_model: Path) -> Segmenter:
    return Segmenter.load(channel_model, 'onnxruntime', threads=1)


def test_masks_of_a_frame_of_the_models_size_are_exact(
    segmenter: Segmenter, frame: np.ndarray
) -> None:
    result = segmenter(frame)
    assert (result.labels == frame[..., 0]).all()
    assert (result.confidence == frame[..., 1]).all()
    expected = exposure.exposure_mask(frame[..., 2].copy(), ExposureThresholds())
    assert (result.exposure == expected).all()
    assert result.timings.infer > 0


def test_masks_have_the_frames_size_and_no_invented_labels(segmenter: Segmenter) -> None:
    frame = np.zeros((96, 200, 3), np.uint8)
    frame[:, 100:, 0] = 18
    result = segmenter(frame)
    assert result.labels.shape == result.confidence.shape == result.exposure.shape == (96, 200)
    assert set(np.unique(result.labels[:, 110:])) == {18}
    assert set(np.unique(result.labels[:, :90])) == {0}


def test_masks_are_written_into_the_given_memory(segmenter: Segmenter, frame: np.ndarray) -> None:
    memory = MaskMemory.allocate(32, 48)
    result = segmenter(frame, out=memory)
    assert result.labels is memory.labels
    assert (memory.labels == frame[..., 0]).all()
    assert (memory.confidence == frame[..., 1]).all()


def test_channel_order_is_honoured(segmenter: Segmenter, frame: np.ndarray) -> None:
    swapped = np.ascontiguousarray(frame[..., ::-1])
    assert (segmenter(swapped, 'bgr8').labels == frame[..., 0]).all()


def test_without_exposure_stream_the_frames_own_v_counts(
    tmp_path: Path, make_channel_model: Callable[..., Path]
) -> None:
    model = make_channel_model(tmp_path / 'plain.onnx', 16, 16, exposure=False)
    frame = np.zeros((16, 16, 3), np.uint8)
    frame[:8, :, 1] = 255
    result = Segmenter.load(model, 'onnxruntime')(frame)
    assert (result.exposure[:8] == exposure.OVER_EXPOSED).all()
    assert (result.exposure[8:] == exposure.UNDER_EXPOSED).all()


def test_the_released_model_sees_road_and_sky_at_dusk(shared_data: Path) -> None:
    folder = shared_data / 'camvid_dusk_dev'
    segmenter = Segmenter.load()
    right = total = 0
    road = []
    for path in sorted((folder / 'images').iterdir())[::12]:
        frame = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        truth = cv2.imread(str(folder / 'labels' / f'{path.stem}.png'), cv2.IMREAD_UNCHANGED)
        result = segmenter(frame)
        known = truth != 255
        right += int((result.labels == truth)[known].sum())
        total += int(known.sum())
        found = np.mean(result.labels[-60:][truth[-60:] == 0] == 0)
        assert found > 0.4, f'{path.name}: no road before the car'
        road.append(found)
    assert np.mean(road) > 0.8
    assert right / total > 0.7
