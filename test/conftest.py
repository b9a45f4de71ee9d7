"""Fixtures that all tests share: real frames, and models whose masks are known exactly."""

from __future__ import annotations

import signal
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto
from onnx import helper

# A shell starts what runs in its background with Ctrl-C ignored, and every child inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED_DATA = Path(__file__).parents[2] / 'shared' / 'data'


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Return the folder of real frames."""
    if not SHARED_DATA.is_dir():
        pytest.skip('the real frames (../shared/data) are not on this machine')
    return SHARED_DATA


def write_channel_model(path: Path, height: int, width: int, *, exposure: bool = True) -> Path:
    """Write a model in the released form whose masks are the frame's own channels.

    labels = R, confidence = G, exposure = B: whatever swaps, shifts or loses a channel shows.
    """
    names = ['labels', 'confidence'] + (['exposure'] if exposure else [])
    nodes, constants = [], []
    for channel, name in enumerate(names):
        constants.append(helper.make_tensor(f'{name}_channel', TensorProto.INT64, [], [channel]))
        nodes.append(helper.make_node('Gather', ['image', f'{name}_channel'], [name], axis=3))
    graph = helper.make_graph(
        nodes,
        'channels',
        [helper.make_tensor_value_info('image', TensorProto.UINT8, [1, height, width, 3])],
        [helper.make_tensor_value_info(n, TensorProto.UINT8, [1, height, width]) for n in names],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    helper.set_model_props(model, {'name': 'channels'})
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope='session')
def make_channel_model() -> Callable[..., Path]:
    """Return :func:`write_channel_model`."""
    return write_channel_model


@pytest.fixture
def channel_model(tmp_path: Path) -> Path:
    """Return a 32x48 model whose labels, confidence and exposure are R, G and B."""
    return write_channel_model(tmp_path / 'channels.onnx', 32, 48)


@pytest.fixture
def frame() -> NDArray[np.uint8]:
    """Return a 32x48 RGB frame whose red channel holds trainIds."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)
    pixels[..., 0] %= 19
    return pixels


@pytest.fixture(scope='session')
def ros_context() -> Iterator[None]:
    """Initialise rclpy in a graph of its own."""
    rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed: source a ROS 2')
    from nightseg_ros.evaluation.ros_environment import isolate_ros

    isolate_ros()
    rclpy.init()
    yield
    rclpy.try_shutdown()
