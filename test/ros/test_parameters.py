"""Parameters: described, checked at the start and while the node runs."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
from rcl_interfaces.srv import DescribeParameters
from rcl_interfaces.srv import ListParameters
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.parameter import Parameter

from nightseg_ros.core.exposure import ExposureThresholds
from nightseg_ros.core.exposure import exposure_mask
from nightseg_ros.ros import parameters
from nightseg_ros.ros.parameters import DECLARATIONS
from nightseg_ros.ros.parameters import InvalidParameterError

from .conftest import command


def pixels(message) -> np.ndarray:
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)


def test_each_is_described_with_its_range_and_whether_it_can_change(start) -> None:
    rig = start()
    names = rig.call(ListParameters, 'list_parameters', ListParameters.Request()).result.names
    declared = {d.name: d for d in DECLARATIONS}
    assert set(declared) <= set(names)
    request = DescribeParameters.Request(names=list(declared))
    answer = rig.call(DescribeParameters, 'describe_parameters', request)
    for descriptor in answer.descriptors:
        declaration = declared[descriptor.name]
        assert descriptor.description, descriptor.name
        assert descriptor.read_only == declaration.read_only
        ranges = [*descriptor.floating_point_range, *descriptor.integer_range]
        bounds = tuple((r.from_value, r.to_value) for r in ranges)
        assert bounds == ((declaration.bounds,) if declaration.bounds else ())
        for choice in declaration.choices:
            assert choice in descriptor.additional_constraints


def test_numbers_have_a_range_and_words_a_choice() -> None:
    free = {'model_path', 'engine_cache_dir', 'debug_dir', 'cameras'}
    for declaration in DECLARATIONS:
        limited = bool(declaration.bounds or declaration.choices)
        assert limited or isinstance(declaration.default, bool) or declaration.name in free


def test_what_is_refused_while_running_changes_nothing(start, make_image, frame) -> None:
    rig = start()
    rig.listen('exposure/mask')
    camera = rig.camera()
    for name, value, reason in (
        ('overlay_opacity', 1.5, 'out of range'),
        ('overlay_opacity', float('nan'), ''),
        ('stale_after_ms', 0.0, 'out of range'),
        ('png_level', 10, 'out of range'),
        ('png_level', 'high', ''),
        ('exposure.under_threshold', 0.99, 'under < over'),
        ('mask_size', 'huge', "'huge' is not one of source, model"),
        ('backend', 'abacus', "'abacus' is not one of auto"),
        ('precision', 'fp4', "'fp4' is not one of auto"),
        ('debug_dir', '~nobody_of_this_name/debug', 'debug_dir'),
        ('image_transport', 'compressed', 'read-only'),
        ('cameras', ['front'], 'read-only'),
    ):
        result = rig.set_parameter(name, value)
        assert not result.successful, (name, value)
        assert reason in result.reason, result.reason
    camera.publish(make_image(rig.node, frame))
    expected = exposure_mask(frame[..., 2].copy(), ExposureThresholds())
    assert (pixels(rig.next('exposure/mask')) == expected).all()


def test_what_is_accepted_takes_effect_with_the_next_frame(start, make_image, frame) -> None:
    rig = start()
    rig.listen('exposure/mask')
    rig.listen('semantic/overlay', best_effort=True)
    camera = rig.camera()
    assert rig.set_parameter('exposure.under_threshold', 0.5).successful
    assert rig.set_parameter('exposure.over_threshold', 0.6).successful
    assert rig.set_parameter('overlay_opacity', 0.0).successful
    camera.publish(make_image(rig.node, frame))
    expected = exposure_mask(frame[..., 2].copy(), ExposureThresholds(0.5, 0.6))
    assert (pixels(rig.next('exposure/mask')) == expected).all()
    assert bytes(rig.next('semantic/overlay').data) == frame.tobytes()


def test_values_that_only_fit_together_can_be_set_together(start) -> None:
    rig = start()
    changes = {'exposure.under_threshold': 0.95, 'exposure.over_threshold': 0.97}
    for name, value in changes.items():
        assert rig.set_parameter(name, value).successful == (name == 'exposure.over_threshold')
    request = SetParametersAtomically.Request(
        parameters=[
            Parameter(name, value=value).to_parameter_msg() for name, value in changes.items()
        ]
    )
    answer = rig.call(SetParametersAtomically, 'set_parameters_atomically', request)
    assert answer.result.successful, answer.result.reason


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'model_path': '/nowhere/model.onnx'}, '/nowhere/model.onnx'),
        ({'model_path': 5}, 'model_path'),
        ({'backend': 'abacus'}, "'abacus' is not one of auto, tensorrt, openvino, onnxruntime"),
        ({'precision': 'fp4'}, "'fp4' is not one of auto, fp32, fp16, bf16, int8"),
        ({'backend': 'openvino', 'precision': 'fp16'}, "'openvino' cannot run in fp16"),
        ({'image_transport': 'pigeon'}, 'raw, compressed'),
        ({'mask_size': 'huge'}, 'source, model'),
        ({'overlay_opacity': 3.0}, 'overlay_opacity'),
        ({'overlay_opacity': '.nan'}, 'overlay_opacity'),
        ({'threads': -1}, 'threads'),
        ({'exposure.under_threshold': 0.95}, 'under < over'),
        ({'cameras': '[front, front]'}, 'must be different names'),
        ({'cameras': '["front left"]'}, "'front left' cannot be part of a topic's name"),
        ({'cameras': '["", front]'}, "cameras: ''"),
        ({'cameras': '["1st"]'}, "cameras: '1st'"),
        ({'cameras': 'front'}, 'cameras'),
        ({'cameras': '[]'}, 'cameras'),
        ({'debug_dir': '~nobody_of_this_name/debug'}, 'debug_dir'),
        ({'model_path': '~nobody_of_this_name/model.onnx'}, 'model.onnx'),
        ({'engine_cache_dir': '~nobody_of_this_name/engines'}, 'engine_cache_dir'),
        ({'qos_overrides./image.subscription.reliability': 'often'}, 'often'),
        ({'qos_overrides./night_seg/semantic/mask.publisher.depth': 'deep'}, 'depth'),
    ],
)
def test_what_cannot_start_says_why_and_exits_with_2(
    ros_context: None, channel_model, arguments: dict[str, object], message: str
) -> None:
    defaults = {'model_path': channel_model, 'backend': 'onnxruntime'}
    done = subprocess.run(
        command({**defaults, **arguments}), capture_output=True, text=True, timeout=30
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 2, printed
    assert message in printed
    assert 'Traceback' not in printed


@pytest.mark.parametrize('names', [[''], ['front'], ['front', 'rear_2'], ['rig/front', 'rig/rear']])
def test_good_camera_names(names: list[str]) -> None:
    parameters.check_cameras(names)


@pytest.mark.parametrize(
    'names',
    [[], ['', ''], ['a', 'a'], ['', 'a'], ['a b'], ['/a'], ['a/'], ['~'], ['é'], ['{node}']],
)
def test_bad_camera_names(names: list[str]) -> None:
    with pytest.raises(InvalidParameterError, match='cameras'):
        parameters.check_cameras(names)
