from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest

from nightseg_ros.core.model import ModelError
from nightseg_ros.core.model import load_model
from nightseg_ros.core.model import released_model


def test_a_model_is_read_with_its_card(channel_model: Path) -> None:
    model = load_model(channel_model)
    assert (model.height, model.width, model.has_exposure) == (32, 48, True)
    assert model.card['name'] == 'channels'
    assert model.sha256 == hashlib.sha256(channel_model.read_bytes()).hexdigest()


def test_the_released_model_is_found_and_complete() -> None:
    model = load_model()
    assert model.path == released_model()
    for key in ('classes', 'data', 'licence', 'metrics', 'input'):
        assert model.card[key]
    assert 'Research' in model.card['licence']


def test_a_missing_model_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match='nowhere.onnx.*leave model_path empty'):
        load_model(tmp_path / 'nowhere.onnx')
    with pytest.raises(ModelError, match='cannot read'):
        load_model(tmp_path)
    with pytest.raises(ModelError, match='not installed'):
        released_model('no_such_model.onnx')


@pytest.mark.parametrize('keep', [0, 10, 0.5, 0.99])
def test_a_truncated_model_is_refused(channel_model: Path, keep: float) -> None:
    content = channel_model.read_bytes()
    channel_model.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    with pytest.raises(ModelError, match='channels.onnx'):
        load_model(channel_model)


def test_noise_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'noise.onnx'
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(ModelError, match='no valid ONNX'):
        load_model(path)


def rename_input(graph: onnx.GraphProto) -> None:
    graph.input[0].name = graph.node[0].input[0] = 'picture'
    for node in graph.node:
        node.input[0] = 'picture'


def float_input(graph: onnx.GraphProto) -> None:
    graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for output in graph.output:
        output.type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def dynamic_input(graph: onnx.GraphProto) -> None:
    graph.input[0].type.tensor_type.shape.dim[1].dim_param = 'H'


def drop_confidence(graph: onnx.GraphProto) -> None:
    del graph.output[1]


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (rename_input, "one input named 'image'"),
        (float_input, 'must be uint8'),
        (dynamic_input, 'fixed size'),
        (drop_confidence, 'no output confidence'),
    ],
)
def test_foreign_models_are_refused(channel_model: Path, spoil, message: str) -> None:
    proto = onnx.load(str(channel_model))
    spoil(proto.graph)
    channel_model.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=message):
        load_model(channel_model)
