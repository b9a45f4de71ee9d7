"""Every topic of the node, over real DDS."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import CompressedImage

from nightseg_ros.core.exposure import ExposureThresholds
from nightseg_ros.core.exposure import exposure_mask
from nightseg_ros.core.labels import PALETTE
from nightseg_ros.core.overlay import overlay

MASK = 'semantic/mask'
MASKS = (MASK, 'semantic/confidence', 'exposure/mask', 'exposure/map')
PICTURES = ('semantic/color', 'semantic/overlay')
COMPRESSED, INFO = 'semantic/mask/compressed', 'semantic/camera_info'


def pixels(message) -> np.ndarray:
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, -1)


@pytest.fixture
def info() -> CameraInfo:
    result = CameraInfo(width=48, height=32)
    result.k = [40.0, 0.0, 24.0, 0.0, 41.0, 16.0, 0.0, 0.0, 1.0]
    result.p = [39.0, 0.0, 24.0, -4.0, 0.0, 38.0, 16.0, 2.0, 0.0, 0.0, 1.0, 0.0]
    result.roi.x_offset, result.roi.y_offset = 8, 4
    result.roi.width, result.roi.height = 32, 24
    result.header.frame_id = 'another'
    return result


def listen_to_everything(rig) -> None:
    for topic in MASKS:
        rig.listen(topic)
    for topic in PICTURES:
        rig.listen(topic, best_effort=True)
    rig.listen(COMPRESSED, kind=CompressedImage)
    rig.listen(INFO, kind=CameraInfo)


def test_every_topic_shows_its_frame_under_its_header(start, make_image, info, frame) -> None:
    rig = start()
    listen_to_everything(rig)
    calibration = rig.camera('/camera_info', CameraInfo)
    camera = rig.camera()
    calibration.publish(info)
    rig.spin(0.3)
    for turn in range(3):
        content = np.roll(frame, turn, axis=1)
        labels = np.ascontiguousarray(content[..., 0])
        image = make_image(rig.node, content, padding=turn)
        camera.publish(image)
        received = {topic: rig.next(topic) for topic in (*MASKS, *PICTURES, COMPRESSED, INFO)}
        for message in received.values():
            assert message.header == image.header
        for topic in MASKS:
            assert received[topic].encoding == 'mono8'
            assert (received[topic].step, received[topic].is_bigendian) == (48, 0)
        for topic in PICTURES:
            assert (received[topic].encoding, received[topic].step) == ('rgb8', 144)
        shown = {topic: pixels(received[topic]) for topic in (*MASKS, *PICTURES)}
        assert (shown[MASK][..., 0] == labels).all()
        assert (shown['semantic/confidence'][..., 0] == content[..., 1]).all()
        assert (shown['exposure/map'][..., 0] == content[..., 2]).all()
        expected = exposure_mask(content[..., 2].copy(), ExposureThresholds())
        assert (shown['exposure/mask'][..., 0] == expected).all()
        assert (shown['semantic/color'] == PALETTE[labels]).all()
        assert (shown['semantic/overlay'] == overlay(content, labels)).all()
        png = received[COMPRESSED]
        assert png.format == 'mono8; png compressed mono8'
        decoded = cv2.imdecode(np.frombuffer(png.data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert (decoded == labels).all()
        assert list(received[INFO].k) == list(info.k)
        assert list(received[INFO].p) == list(info.p)
        assert received[INFO].roi == info.roi
        assert (received[INFO].width, received[INFO].height) == (48, 32)
    assert not any(rig.heard.values())


def test_masks_of_the_models_size_come_with_a_calibration_of_that_size(
    start, make_image, info
) -> None:
    rig = start({'mask_size': 'model'})
    listen_to_everything(rig)
    calibration = rig.camera('/camera_info', CameraInfo)
    camera = rig.camera()
    info.width, info.height = 144, 64
    calibration.publish(info)
    rig.spin(0.3)
    content = np.full((64, 144, 3), 9, np.uint8)
    camera.publish(make_image(rig.node, content))
    for topic in (*MASKS, *PICTURES):
        message = rig.next(topic)
        assert (message.height, message.width) == (32, 48), topic
    small = rig.next(INFO)
    assert (small.width, small.height) == (48, 32)
    assert small.k == pytest.approx([40 / 3, 0, 8, 0, 20.5, 8, 0, 0, 1])
    assert small.p == pytest.approx([13, 0, 8, -4 / 3, 0, 19, 8, 1, 0, 0, 1, 0])
    assert (small.roi.x_offset, small.roi.y_offset) == (3, 2)
    assert (small.roi.width, small.roi.height) == (11, 12)
    png = rig.next(COMPRESSED)
    decoded = cv2.imdecode(np.frombuffer(png.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.shape == (32, 48)

    # It may change while frames flow.
    assert rig.set_parameter('mask_size', 'source').successful
    camera.publish(make_image(rig.node, content))
    assert rig.next(MASK).width == 144
    unscaled = rig.next(INFO)
    assert list(unscaled.k) == list(info.k)


def test_a_camera_without_calibration_has_masks_all_the_same(start, make_image, frame) -> None:
    rig = start()
    listen_to_everything(rig)
    camera = rig.camera()
    camera.publish(make_image(rig.node, frame))
    for topic in (*MASKS, *PICTURES, COMPRESSED):
        rig.next(topic)
    rig.spin(0.3)
    assert not rig.heard[INFO]


def test_a_change_of_resolution_changes_every_topic(start, make_image) -> None:
    rig = start()
    listen_to_everything(rig)
    camera = rig.camera()
    for height, width in ((64, 96), (33, 51), (64, 96), (1, 1)):
        content = np.full((height, width, 3), 4, np.uint8)
        camera.publish(make_image(rig.node, content))
        for topic in (*MASKS, *PICTURES):
            message = rig.next(topic)
            channels = 3 if topic in PICTURES else 1
            assert (message.height, message.width) == (height, width)
            assert message.step == width * channels
            assert len(message.data) == height * width * channels
            if topic == MASK:
                assert set(message.data) == {4}


def test_topics_are_published_with_the_promised_quality(start) -> None:
    rig = start()
    rig.camera()
    reliable, best_effort = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
    for topics, reliability in (((*MASKS, COMPRESSED, INFO), reliable), (PICTURES, best_effort)):
        for topic in topics:
            (found,) = rig.node.get_publishers_info_by_topic(f'/night_seg/{topic}')
            assert found.qos_profile.reliability == reliability, topic
            assert found.qos_profile.durability == DurabilityPolicy.VOLATILE, topic
    for topic in ('/image', '/camera_info'):
        (found,) = rig.node.get_subscriptions_info_by_topic(topic)
        assert found.qos_profile.reliability == best_effort


def test_best_effort_subscribers_get_masks_too(start, make_image, frame) -> None:
    rig = start()
    rig.listen(MASK, best_effort=True)
    camera = rig.camera()
    camera.publish(make_image(rig.node, frame))
    assert (pixels(rig.next(MASK))[..., 0] == frame[..., 0]).all()


def test_label_info_reaches_whoever_comes_later(start) -> None:
    vision_msgs = pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not installed')
    rig = start()
    rig.camera()
    for topic, count in (('semantic/label_info', 20), ('exposure/label_info', 4)):
        rig.listen(topic, False, vision_msgs.LabelInfo, DurabilityPolicy.TRANSIENT_LOCAL)
        assert len(rig.next(topic).class_map) == count
