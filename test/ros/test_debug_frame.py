from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from nightseg_ros.core.backends import BackendOptions
from nightseg_ros.core.exposure import ExposureThresholds
from nightseg_ros.core.exposure import exposure_mask
from nightseg_ros.core.image_codec import CameraFrame
from nightseg_ros.core.overlay import overlay
from nightseg_ros.core.segmenter import Segmenter
from nightseg_ros.ros import debug_frame
from nightseg_ros.ros.camera import SegmentedFrame
from nightseg_ros.ros.parameters import Settings
from nightseg_ros.ros.statistics import Statistics


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(True, 0, 0, 0, 0, 1, ExposureThresholds(), 0.5, 1, tmp_path / 'a' / 'b')


@pytest.fixture
def segmenter(channel_model: Path) -> Segmenter:
    return Segmenter.load(channel_model, 'onnxruntime', BackendOptions(threads=1))


@pytest.fixture
def last(segmenter: Segmenter, frame: np.ndarray) -> SegmentedFrame:
    camera_frame = CameraFrame.of(np.ascontiguousarray(frame[..., ::-1]), 'bgr8')
    header = Header(stamp=Time(sec=12, nanosec=34), frame_id='front')
    return SegmentedFrame(header, camera_frame, segmenter(camera_frame))


def camera(name: str) -> SimpleNamespace:
    return SimpleNamespace(name=name, statistics=Statistics())


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_pictures_are_what_was_seen_and_made_of_it(
    segmenter: Segmenter, last: SegmentedFrame, settings: Settings, frame: np.ndarray
) -> None:
    folder = debug_frame.save(camera('front'), last, segmenter, settings)
    assert folder == settings.debug_dir / 'front_12_000000034'
    assert (read(folder / 'image.png')[..., ::-1] == frame).all()
    assert (read(folder / 'mask.png') == frame[..., 0]).all()
    assert (read(folder / 'confidence.png') == frame[..., 1]).all()
    assert (read(folder / 'exposure_map.png') == frame[..., 2]).all()
    expected = exposure_mask(frame[..., 2].copy(), settings.thresholds)
    assert (read(folder / 'exposure.png') == expected).all()
    expected = overlay(frame, np.ascontiguousarray(frame[..., 0]), 0.5)
    assert (read(folder / 'overlay.png')[..., ::-1] == expected).all()


def test_the_description_says_what_made_it(
    segmenter: Segmenter, last: SegmentedFrame, settings: Settings
) -> None:
    folder = debug_frame.save(camera(''), last, segmenter, settings)
    assert folder.name == 'camera_12_000000034'
    described = json.loads((folder / 'frame.json').read_text())
    assert described['stamp'] == '12.000000034'
    assert described['frame_id'] == 'front'
    assert (described['encoding'], described['size']) == ('bgr8', [48, 32])
    assert described['engine']['sha256'] == segmenter.backend.model.sha256
    assert described['engine']['backend'] == 'onnxruntime'


def test_a_frame_can_be_saved_after_its_engine_is_gone_and_saved_again(
    last: SegmentedFrame, settings: Settings
) -> None:
    folder = debug_frame.save(camera(''), last, None, settings)
    assert debug_frame.save(camera(''), last, None, settings) == folder
    assert json.loads((folder / 'frame.json').read_text())['engine'] == {}


def test_masks_are_saved_at_the_size_of_the_frame(segmenter: Segmenter, settings: Settings) -> None:
    camera_frame = CameraFrame.of(np.full((64, 80), 9, np.uint8), 'mono8')
    last = SegmentedFrame(Header(), camera_frame, segmenter(camera_frame))
    folder = debug_frame.save(camera(''), last, segmenter, settings)
    assert read(folder / 'image.png').shape == (64, 80, 3)
    assert (read(folder / 'mask.png') == np.full((64, 80), 9)).all()


def test_a_folder_that_cannot_be_written_is_an_os_error(
    last: SegmentedFrame, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='file'):
        debug_frame.save(camera(''), last, None, replace(settings, debug_dir=tmp_path / 'file'))
    taken = tmp_path / 'camera_12_000000034' / 'mask.png'
    taken.mkdir(parents=True)
    with pytest.raises(OSError, match=r'mask\.png'):
        debug_frame.save(camera(''), last, None, replace(settings, debug_dir=tmp_path))
