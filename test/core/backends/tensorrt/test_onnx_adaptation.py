from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from onnx import helper

from nightseg_ros.core.backends.tensorrt.onnx_adaptation import adapt_for_tensorrt
from nightseg_ros.core.backends.tensorrt.onnx_adaptation import with_float_weights
from nightseg_ros.core.model import released_model


class Network:
    """A graph in ONNX Runtime."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=['CPUExecutionProvider']
        )

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        return self._session.run(['labels', 'confidence', 'exposure'], {'image': image})


@pytest.fixture(scope='module')
def problems(tensorrt_double) -> Callable[[onnx.ModelProto], list]:  # type: ignore[no-untyped-def]
    return lambda proto: list(tensorrt_double.uint8_problems(proto))


def test_the_released_graph_parses_only_adapted(problems: Callable) -> None:
    proto = onnx.load(str(released_model()))
    before = proto.SerializeToString()
    assert problems(proto)
    assert problems(adapt_for_tensorrt(proto)) == []
    assert proto.SerializeToString() == before


def test_the_released_graph_computes_the_same(shared_data: Path) -> None:
    proto = onnx.load(str(released_model()))
    adapted = adapt_for_tensorrt(proto)
    onnx.checker.check_model(adapted, full_check=True)
    original, changed = Network(proto), Network(adapted)
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    night = sorted((shared_data / 'campus_night' / 'images').iterdir())[::100]
    frames = [cv2.resize(cv2.imread(str(p))[..., ::-1], (shape[2], shape[1])) for p in night]
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for image in [*(f[None] for f in frames), noise, np.full(shape, 255, np.uint8)]:
        image = np.ascontiguousarray(image)
        for before, after in zip(original(image), changed(image), strict=True):
            assert after.dtype == np.uint8
            assert (before == after).all()


def test_uint8_that_passes_through_is_cast_last(
    channel_model: Path, frame: np.ndarray, problems: Callable
) -> None:
    proto = onnx.load(str(channel_model))
    assert problems(proto)
    adapted = adapt_for_tensorrt(proto)
    assert problems(adapted) == []
    for channel, mask in enumerate(Network(adapted)(frame[None])):
        assert (mask[0] == frame[..., channel]).all()


def test_an_output_that_is_read_inside_too_stays_right(problems: Callable) -> None:
    """Labels = R; exposure is made from the labels."""
    nodes = [
        helper.make_node('Gather', ['image', 'zero'], ['labels'], axis=3),
        helper.make_node('Cast', ['labels'], ['float'], to=TensorProto.FLOAT),
        helper.make_node('Mul', ['float', 'half'], ['product']),
        helper.make_node('Cast', ['product'], ['exposure'], to=TensorProto.UINT8),
        helper.make_node('Gather', ['image', 'one'], ['confidence'], axis=3),
    ]
    graph = helper.make_graph(
        nodes,
        'inside',
        [helper.make_tensor_value_info('image', TensorProto.UINT8, [1, 4, 4, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.UINT8, [1, 4, 4])
            for name in ('labels', 'confidence', 'exposure')
        ],
        [
            helper.make_tensor('zero', TensorProto.INT64, [], [0]),
            helper.make_tensor('one', TensorProto.INT64, [], [1]),
            helper.make_tensor('half', TensorProto.FLOAT, [], [0.5]),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    adapted = adapt_for_tensorrt(proto)
    assert problems(adapted) == []
    original, changed = Network(proto), Network(adapted)
    image = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3) * 5
    for before, after in zip(original(image), changed(image), strict=True):
        assert (before == after).all()


def test_int8_weights_become_floats_that_quantise_to_the_same() -> None:
    proto = onnx.load(str(released_model('student_384x640_int8.onnx')))
    before = proto.SerializeToString()
    widened = with_float_weights(proto)
    onnx.checker.check_model(widened, full_check=True)
    assert proto.SerializeToString() == before

    def int8_weights(model: onnx.ModelProto) -> int:
        kinds = [t.data_type for t in model.graph.initializer if len(t.dims) == 4]
        return kinds.count(TensorProto.INT8)

    assert int8_weights(proto) > 50
    assert int8_weights(widened) == 0
    image = np.random.default_rng(0).integers(0, 256, (1, 384, 640, 3), dtype=np.uint8)
    for mask, same in zip(Network(proto)(image), Network(widened)(image), strict=True):
        assert np.mean(mask == same) > 0.999  # the optimiser may fuse them differently
