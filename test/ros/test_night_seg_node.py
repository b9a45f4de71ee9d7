"""The node over real DDS: in its own process, with real messages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from lifecycle_msgs.msg import State
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from lifecycle_msgs.srv import GetState
from rcl_interfaces.msg import Parameter
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import DescribeParameters
from rcl_interfaces.srv import ListParameters
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import CompressedImage

from nightseg_ros.core.exposure import ExposureThresholds
from nightseg_ros.core.exposure import exposure_mask
from nightseg_ros.core.overlay import overlay

MASK, CONFIDENCE, EXPOSURE = 'semantic/mask', 'semantic/confidence', 'exposure/mask'
OVERLAY = 'semantic/overlay'


def pixels(message) -> np.ndarray:
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, -1)


def test_masks_carry_the_header_and_the_size_of_each_frame(start, make_image, frame) -> None:
    rig = start()
    for topic in (MASK, CONFIDENCE, EXPOSURE):
        rig.listen(topic)
    rig.listen(OVERLAY, best_effort=True)
    camera = rig.camera()
    alpha = np.full((32, 48, 1), 5, np.uint8)
    sent = {
        'rgb8': frame,
        'bgr8': frame[..., ::-1],
        'rgba8': np.concatenate([frame, alpha], axis=2),
        'bgra8': np.concatenate([frame[..., ::-1], alpha], axis=2),
    }
    for encoding, content in sent.items():
        image = make_image(rig.node, content, encoding, padding=8)
        camera.publish(image)
        received = {topic: rig.next(topic) for topic in (MASK, CONFIDENCE, EXPOSURE, OVERLAY)}
        for message in received.values():
            assert message.header == image.header
            assert (message.height, message.width) == (32, 48)
        assert received[MASK].encoding == 'mono8'
        assert received[MASK].step == 48
        assert (pixels(received[MASK])[..., 0] == frame[..., 0]).all(), encoding
        assert (pixels(received[CONFIDENCE])[..., 0] == frame[..., 1]).all(), encoding
        expected = exposure_mask(frame[..., 2].copy(), ExposureThresholds())
        assert (pixels(received[EXPOSURE])[..., 0] == expected).all(), encoding
        assert received[OVERLAY].encoding == 'rgb8'
        assert (pixels(received[OVERLAY]) == overlay(frame, frame[..., 0])).all(), encoding


def test_a_change_of_resolution_changes_the_mask(start, make_image) -> None:
    rig = start()
    rig.listen(MASK)
    camera = rig.camera()
    for height, width in ((64, 96), (33, 51), (64, 96)):
        content = np.full((height, width, 3), 4, np.uint8)
        camera.publish(make_image(rig.node, content))
        mask = rig.next(MASK)
        assert (mask.height, mask.width, mask.step) == (height, width, width)
        assert set(mask.data) == {4}


def test_bad_images_are_counted_and_the_next_good_one_works(start, make_image, frame) -> None:
    rig = start()
    rig.listen(MASK)
    camera = rig.camera()

    def drops(reason: str) -> int:
        return int(rig.diagnostics.get('input', {}).get(f'dropped/{reason}', 0))

    for spoil, reason in (
        ({'encoding': '32FC1'}, 'unknown_encoding'),
        ({'height': 33}, 'short_data'),
        ({'width': 0, 'height': 0}, 'empty_image'),
        ({'step': 10}, 'bad_step'),
    ):
        bad = make_image(rig.node, frame)
        for name, value in spoil.items():
            setattr(bad, name, value)
        camera.publish(bad)
        rig.wait_for(lambda reason=reason: drops(reason) == 1, f'count of {reason}')
    camera.publish(make_image(rig.node, frame, age_s=30))
    rig.wait_for(lambda: drops('too_old') == 1, 'count of too_old')
    assert 'set use_sim_time' in rig.diagnostics['input']['last_error']
    assert not rig.heard[MASK]

    good = make_image(rig.node, frame)
    camera.publish(good)
    assert rig.next(MASK).header == good.header
    rig.wait_for(lambda: rig.diagnostics['input']['published'] == '1', 'count of the good one')
    assert rig.diagnostics['engine']['backend'] == 'onnxruntime'
    assert 'infer_ms/p99' in rig.diagnostics['processing time']


def test_an_image_without_stamp_is_not_too_old(start, make_image, frame) -> None:
    rig = start()
    rig.listen(MASK)
    camera = rig.camera()
    image = make_image(rig.node, frame)
    image.header.stamp.sec = image.header.stamp.nanosec = 0
    camera.publish(image)
    assert rig.next(MASK).header == image.header


def test_compressed_images(start, make_compressed, frame) -> None:
    rig = start({'image_transport': 'compressed'})
    rig.listen(MASK)
    camera = rig.camera('/image/compressed', CompressedImage)
    camera.publish(make_compressed(rig.node, b'\xff\xd8 no jpeg', 'jpeg'))
    content = cv2.imencode('.png', cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1].tobytes()
    rig.wait_for(
        lambda: rig.diagnostics.get('input', {}).get('dropped/bad_compressed_image') == '1',
        'count of the garbage',
    )
    camera.publish(make_compressed(rig.node, content, 'png'))
    mask = rig.next(MASK)
    assert mask.header.frame_id == 'front_camera'
    assert (pixels(mask)[..., 0] == frame[..., 0]).all()


def change(rig, transition: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=transition))
    return rig.call(ChangeState, 'change_state', request).success


def state(rig) -> int:
    return rig.call(GetState, 'get_state', GetState.Request()).current_state.id


def test_the_lifecycle_can_be_walked_twice(start, make_image, frame) -> None:
    rig = start({'autostart': 'false'})
    rig.listen(MASK)
    assert state(rig) == State.PRIMARY_STATE_UNCONFIGURED
    for _ in range(2):
        assert change(rig, Transition.TRANSITION_CONFIGURE)
        assert state(rig) == State.PRIMARY_STATE_INACTIVE
        assert change(rig, Transition.TRANSITION_ACTIVATE)
        camera = rig.camera()
        camera.publish(make_image(rig.node, frame))
        rig.next(MASK)
        assert change(rig, Transition.TRANSITION_DEACTIVATE)
        camera.publish(make_image(rig.node, frame))
        rig.spin(0.5)
        assert not rig.heard[MASK]
        assert change(rig, Transition.TRANSITION_CLEANUP)
        rig.node.destroy_publisher(camera)
    assert state(rig) == State.PRIMARY_STATE_UNCONFIGURED


def set_double(rig, name: str, value: float):
    kind = ParameterType.PARAMETER_DOUBLE
    parameter = Parameter(name=name, value=ParameterValue(type=kind, double_value=value))
    request = SetParameters.Request(parameters=[parameter])
    return rig.call(SetParameters, 'set_parameters', request).results[0]


def test_parameters_are_described_checked_and_take_effect(start, make_image, frame) -> None:
    rig = start()
    rig.listen(EXPOSURE)
    camera = rig.camera()
    names = rig.call(ListParameters, 'list_parameters', ListParameters.Request()).result.names
    ours = [n for n in names if not n.startswith(('qos_overrides', 'use_sim_time', 'start_type'))]
    assert 'overlay_opacity' in ours
    described = rig.call(
        DescribeParameters, 'describe_parameters', DescribeParameters.Request(names=ours)
    )
    for descriptor in described.descriptors:
        assert descriptor.description, descriptor.name

    assert not set_double(rig, 'overlay_opacity', 1.5).successful
    refused = set_double(rig, 'exposure.under_threshold', 0.99)
    assert not refused.successful
    assert 'under < over' in refused.reason
    kind = ParameterType.PARAMETER_STRING
    transport = Parameter(
        name='image_transport', value=ParameterValue(type=kind, string_value='compressed')
    )
    request = SetParameters.Request(parameters=[transport])
    assert not rig.call(SetParameters, 'set_parameters', request).results[0].successful

    assert set_double(rig, 'exposure.under_threshold', 0.5).successful
    camera.publish(make_image(rig.node, frame))
    expected = exposure_mask(frame[..., 2].copy(), ExposureThresholds(under=0.5))
    assert (pixels(rig.next(EXPOSURE))[..., 0] == expected).all()


def test_ctrl_c_ends_the_node_cleanly(start) -> None:
    rig = start()
    rig.camera()
    assert rig.interrupt() == 0
    assert 'Traceback' not in rig.log.read_text()


@pytest.mark.parametrize(
    ('parameter', 'message'),
    [
        ('model_path:=/nowhere/model.onnx', '/nowhere/model.onnx'),
        ('backend:=abacus', "'abacus' is not one of auto, tensorrt, openvino, onnxruntime"),
        ('image_transport:=pigeon', 'raw, compressed'),
        ('overlay_opacity:=3.0', 'overlay_opacity'),
    ],
)
def test_what_cannot_start_says_why_and_exits_with_2(
    ros_context: None, parameter: str, message: str
) -> None:
    command = [sys.executable, '-m', 'nightseg_ros.ros.night_seg_node']
    done = subprocess.run(
        [*command, '--ros-args', '-p', parameter], capture_output=True, text=True, timeout=60
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 2, printed
    assert message in printed
    assert 'Traceback' not in printed


def test_a_corrupt_model_is_named(ros_context: None, channel_model: Path) -> None:
    channel_model.write_bytes(channel_model.read_bytes()[:-40])
    command = [sys.executable, '-m', 'nightseg_ros.ros.night_seg_node', '--ros-args']
    done = subprocess.run(
        [*command, '-p', f'model_path:={channel_model}'],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert 'channels.onnx' in done.stdout + done.stderr
    assert 'Traceback' not in done.stdout + done.stderr
