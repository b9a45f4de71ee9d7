from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from nightseg_ros.core import backends
from nightseg_ros.core.backends import BACKENDS
from nightseg_ros.core.backends import BackendError
from nightseg_ros.core.backends import create_backend
from nightseg_ros.core.model import load_model


@pytest.mark.parametrize('name', sorted(BACKENDS))
def test_each_backend_returns_the_models_outputs(
    name: str, channel_model: Path, frame: np.ndarray
) -> None:
    backend, reason = create_backend(load_model(channel_model), name)
    assert reason == 'asked for'
    result = backend.infer(frame[None])
    for output, channel in zip(result, range(3), strict=True):
        assert output.dtype == np.uint8
        assert (output == frame[..., channel]).all()


@pytest.mark.parametrize('name', sorted(BACKENDS))
def test_a_model_without_exposure_stream_has_none(
    name: str, tmp_path: Path, make_channel_model: Callable[..., Path]
) -> None:
    path = make_channel_model(tmp_path / 'plain.onnx', 8, 8, exposure=False)
    backend, _ = create_backend(load_model(path), name)
    assert backend.infer(np.zeros((1, 8, 8, 3), np.uint8)).exposure is None


def test_backends_agree_on_real_night_frames(shared_data: Path) -> None:
    model = load_model()
    engines = [create_backend(model, name)[0] for name in BACKENDS]
    for path in sorted((shared_data / 'campus_night' / 'images').iterdir())[::50]:
        rgb = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        image = cv2.resize(rgb, (model.width, model.height))[None]
        first, second = (engine.infer(image) for engine in engines)
        assert np.mean(first.labels == second.labels) > 0.98
        assert len(np.unique(first.labels)) > 2


def test_auto_takes_the_fastest_and_says_why(
    channel_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds = {'openvino': 9.0, 'onnxruntime': 3.0}
    monkeypatch.setattr(backends, '_time_inference', lambda backend, trials: speeds[backend.name])
    backend, reason = create_backend(load_model(channel_model))
    assert backend.name == 'onnxruntime'
    assert reason == 'fastest here: onnxruntime 3.0 ms, openvino 9.0 ms'


def test_auto_does_with_what_is_installed(
    channel_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, BACKENDS['openvino'][0], None)
    backend, reason = create_backend(load_model(channel_model))
    assert backend.name == 'onnxruntime'
    assert 'the only one that runs' in reason
    with pytest.raises(BackendError, match='pip install openvino'):
        create_backend(load_model(channel_model), 'openvino')
    monkeypatch.setitem(sys.modules, BACKENDS['onnxruntime'][0], None)
    with pytest.raises(BackendError, match='pip install openvino.*pip install onnxruntime'):
        create_backend(load_model(channel_model))


def test_an_unknown_backend_lists_those_there_are(channel_model: Path) -> None:
    with pytest.raises(BackendError, match='auto, openvino, onnxruntime'):
        create_backend(load_model(channel_model), 'abacus')
