from __future__ import annotations

import copy

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from nightseg_ros.ros.camera_info import scaled


@pytest.fixture
def info() -> CameraInfo:
    result = CameraInfo(width=1920, height=1080, distortion_model='plumb_bob')
    result.d = [0.1, -0.2, 0.01, 0.02, 0.3]
    result.k = [1400.0, 0.5, 960.0, 0.0, 1390.0, 540.0, 0.0, 0.0, 1.0]
    result.p = [1300.0, 0.5, 950.0, -130.0, 0.0, 1290.0, 530.0, 7.0, 0.0, 0.0, 1.0, 0.0]
    result.roi.x_offset, result.roi.y_offset = 100, 60
    result.roi.width, result.roi.height = 800, 600
    result.binning_x = 2
    return result


def test_a_point_is_projected_to_the_scaled_pixel(info: CameraInfo) -> None:
    header = Header(frame_id='front')
    small = scaled(info, header, 1 / 3, 384 / 1080)
    point = np.array([0.3, -0.2, 2.0])
    for name, columns in (('k', 3), ('p', 4)):
        before = np.asarray(getattr(info, name)).reshape(3, columns)
        after = np.asarray(getattr(small, name)).reshape(3, columns)
        homogeneous = np.append(point, 1.0)[:columns]
        u, v, w = before @ homogeneous
        x, y, z = after @ homogeneous
        assert (x / z, y / z) == pytest.approx((u / w / 3, v / w * 384 / 1080))
    assert (small.width, small.height) == (640, 384)
    assert (small.roi.x_offset, small.roi.width) == (33, 267)
    assert (small.roi.y_offset, small.roi.height) == (21, 213)
    assert small.header == header


def test_distortion_rotation_and_binning_stay(info: CameraInfo) -> None:
    small = scaled(info, Header(), 0.5, 0.25)
    assert list(small.d) == list(info.d)
    assert list(small.r) == list(info.r)
    assert (small.binning_x, small.distortion_model) == (2, 'plumb_bob')


def test_without_scaling_only_the_header_changes_and_the_original_stays(info: CameraInfo) -> None:
    before = copy.deepcopy(info)
    same = scaled(info, Header(frame_id='front'), 1.0, 1.0)
    assert info == before
    same.header = info.header
    assert same == info
    scaled(info, Header(), 0.1, 0.1)
    assert info == before
