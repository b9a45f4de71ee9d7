from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from nightseg_ros.core.backends import BackendOptions
from nightseg_ros.core.image_codec import CameraFrame
from nightseg_ros.core.segmenter import Segmenter
from nightseg_ros.core.segmenter import resize_labels
from nightseg_ros.core.segmenter import resize_values


@pytest.fixture
def segmenter(channel_model: Path) -> Segmenter:
    return Segmenter.load(channel_model, 'onnxruntime', BackendOptions(threads=1))


def test_masks_of_a_frame_of_the_models_size_are_exact(
    segmenter: Segmenter, frame: np.ndarray
) -> None:
    result = segmenter(CameraFrame.of(frame))
    assert (result.labels == frame[..., 0]).all()
    assert (result.confidence == frame[..., 1]).all()
    assert (result.exposure == frame[..., 2]).all()
    assert result.timings.preprocess > 0
    assert result.timings.infer > 0


def test_masks_have_the_models_size_until_they_are_resized(segmenter: Segmenter) -> None:
    result = segmenter(CameraFrame.of(np.full((96, 200, 3), 7, np.uint8)))
    masks = (result.labels, result.confidence, result.exposure)
    assert {mask.shape for mask in masks} == {(32, 48)}
    resized = result.resized(96, 200)
    masks = (resized.labels, resized.confidence, resized.exposure)
    assert {mask.shape for mask in masks} == {(96, 200)}
    assert {int(value) for mask in masks for value in np.unique(mask)} == {7}
    assert resized.timings == result.timings


def test_no_label_is_invented_between_two(segmenter: Segmenter) -> None:
    frame = np.zeros((96, 200, 3), np.uint8)
    frame[:, 100:, 0] = 18
    result = segmenter.segment_rgb(frame)
    assert result.labels.shape == result.confidence.shape == result.exposure.shape == (96, 200)
    assert set(np.unique(result.labels[:, 110:])) == {18}
    assert set(np.unique(result.labels[:, :90])) == {0}


def test_the_masks_of_segment_rgb_outlive_the_next_frame(
    segmenter: Segmenter, frame: np.ndarray
) -> None:
    first = segmenter.segment_rgb(frame)
    segmenter.segment_rgb(np.zeros_like(frame))
    assert (first.labels == frame[..., 0]).all()
    assert (first.confidence == frame[..., 1]).all()
    assert (first.exposure == frame[..., 2]).all()


@pytest.mark.parametrize('size', [(64, 96), (128, 64), (96, 144)])
def test_resizing_takes_the_nearest_id_and_writes_where_asked(size: tuple[int, int]) -> None:
    labels = np.random.default_rng(0).choice(np.array([0, 18, 255], np.uint8), (32, 48))
    out = np.full(size, 99, np.uint8)
    assert resize_labels(labels, out) is out
    rows = ((np.arange(size[0]) + 0.5) * 32 / size[0]).astype(int)
    columns = ((np.arange(size[1]) + 0.5) * 48 / size[1]).astype(int)
    assert (out == labels[np.ix_(rows, columns)]).all()


def test_values_are_interpolated() -> None:
    values = np.zeros((4, 4), np.uint8)
    values[:, 2:] = 200
    out = np.empty((8, 8), np.uint8)
    assert resize_values(values, out) is out
    assert set(np.unique(out)) == {0, 50, 150, 200}


def test_channel_order_is_honoured(segmenter: Segmenter, frame: np.ndarray) -> None:
    swapped = np.ascontiguousarray(frame[..., ::-1])
    assert (segmenter(CameraFrame.of(swapped, 'bgr8')).labels == frame[..., 0]).all()


def test_without_exposure_stream_the_frames_own_v_counts(
    tmp_path: Path, make_channel_model: Callable[..., Path]
) -> None:
    model = make_channel_model(tmp_path / 'plain.onnx', 16, 16, exposure=False)
    frame = np.zeros((16, 16, 3), np.uint8)
    frame[:8, :, 1] = 255
    result = Segmenter.load(model, 'onnxruntime').segment_rgb(frame)
    assert (result.exposure[:8] == 255).all()
    assert (result.exposure[8:] == 0).all()


def test_loading_says_what_it_does_and_why_this_backend(channel_model: Path) -> None:
    steps: list[str] = []
    segmenter = Segmenter.load(channel_model, 'onnxruntime', report=steps.append)
    assert segmenter.reason == 'asked for'
    assert 'no reference' in segmenter.self_check
    assert any('self-check' in step for step in steps)
    segmenter.close()


def test_the_released_model_sees_road_and_sky_at_dusk(shared_data: Path) -> None:
    folder = shared_data / 'camvid_dusk_dev'
    segmenter = Segmenter.load()
    right = total = 0
    road = []
    for path in sorted((folder / 'images').iterdir())[::12]:
        frame = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        truth = cv2.imread(str(folder / 'labels' / f'{path.stem}.png'), cv2.IMREAD_UNCHANGED)
        result = segmenter.segment_rgb(frame)
        known = truth != 255
        right += int((result.labels == truth)[known].sum())
        total += int(known.sum())
        found = np.mean(result.labels[-60:][truth[-60:] == 0] == 0)
        assert found > 0.4, f'{path.name}: no road before the car'
        road.append(found)
    assert np.mean(road) > 0.8
    assert right / total > 0.7
