from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from nightseg_ros.core import backends
from nightseg_ros.core.backends import BACKENDS
from nightseg_ros.core.backends import Backend
from nightseg_ros.core.backends import BackendError
from nightseg_ros.core.backends import BackendOptions
from nightseg_ros.core.backends import create_backend
from nightseg_ros.core.model import load_model

CPU = ('onnxruntime', 'openvino')


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 'auto' choose among the CPU backends, whatever this machine has."""
    monkeypatch.setitem(sys.modules, BACKENDS['tensorrt'][0], None)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the backends that were closed."""
    names: list[str] = []
    for name in CPU:
        factory = backends.load_backend_class(name)
        monkeypatch.setattr(factory, 'close', lambda backend: names.append(backend.name))
    return names


@pytest.mark.parametrize('name', CPU)
def test_each_backend_returns_the_models_outputs(
    name: str, channel_model: Path, frame: np.ndarray
) -> None:
    started = create_backend(load_model(channel_model), name)
    assert started.reason == 'asked for'
    assert started.backend.precision == 'fp32'
    result = started.backend.infer(frame[None])
    for output, channel in zip(result, range(3), strict=True):
        assert output.dtype == np.uint8
        assert (output == frame[..., channel]).all()


@pytest.mark.parametrize('name', CPU)
def test_each_backend_reads_its_own_input_again_and_again(
    name: str, channel_model: Path, frame: np.ndarray
) -> None:
    backend = create_backend(load_model(channel_model), name).backend
    assert backend.input.shape == (1, 32, 48, 3)
    for _ in range(3):
        frame = np.roll(frame, 1, axis=1)
        backend.input[0] = frame
        assert (backend.infer(backend.input).labels == frame[..., 0]).all()


@pytest.mark.parametrize('name', CPU)
def test_a_model_without_exposure_stream_has_none(
    name: str, tmp_path: Path, make_channel_model: Callable[..., Path]
) -> None:
    path = make_channel_model(tmp_path / 'plain.onnx', 8, 8, exposure=False)
    backend = create_backend(load_model(path), name).backend
    assert backend.infer(np.zeros((1, 8, 8, 3), np.uint8)).exposure is None


@pytest.mark.parametrize('name', CPU)
def test_facts_for_the_diagnostics_are_text(name: str, channel_model: Path) -> None:
    options = BackendOptions(threads=3)
    facts = create_backend(load_model(channel_model), name, options).backend.describe()
    assert facts['threads'] == '3'
    assert all(isinstance(value, str) for value in facts.values())


def test_backends_agree_on_real_night_frames(shared_data: Path) -> None:
    model = load_model()
    engines = [create_backend(model, name).backend for name in CPU]
    for path in sorted((shared_data / 'campus_night' / 'images').iterdir())[::50]:
        rgb = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        image = cv2.resize(rgb, (model.width, model.height))[None]
        first, second = (engine.infer(image) for engine in engines)
        assert np.mean(first.labels == second.labels) > 0.98
        assert len(np.unique(first.labels)) > 2


def test_auto_takes_the_fastest_says_why_and_closes_the_others(
    channel_model: Path, monkeypatch: pytest.MonkeyPatch, closed: list[str]
) -> None:
    speeds = {'openvino': 9.0, 'onnxruntime': 3.0}
    monkeypatch.setattr(backends, '_time_inference', lambda backend, trials: speeds[backend.name])
    started = create_backend(load_model(channel_model))
    assert started.backend.name == 'onnxruntime'
    assert started.reason == 'fastest here: onnxruntime 3.0 ms, openvino 9.0 ms'
    assert closed == ['openvino']


def test_auto_does_with_what_is_installed(
    channel_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, BACKENDS['openvino'][0], None)
    started = create_backend(load_model(channel_model))
    assert started.backend.name == 'onnxruntime'
    assert 'the only one that runs' in started.reason
    with pytest.raises(BackendError, match='pip install openvino'):
        create_backend(load_model(channel_model), 'openvino')
    monkeypatch.setitem(sys.modules, BACKENDS['onnxruntime'][0], None)
    with pytest.raises(BackendError, match='pip install openvino.*pip install onnxruntime'):
        create_backend(load_model(channel_model))


def test_an_unknown_backend_lists_those_there_are(channel_model: Path) -> None:
    with pytest.raises(BackendError, match='auto, tensorrt, openvino, onnxruntime'):
        create_backend(load_model(channel_model), 'abacus')


@pytest.mark.parametrize(
    ('precision', 'message'),
    [
        ('fp16', "'onnxruntime' cannot run in fp16, only in fp32, int8"),
        ('int8', 'no int8 file of channels: .* channels_int8.onnx'),
        ('fp8', "no precision 'fp8': choose one of auto, fp32, fp16, bf16, int8"),
    ],
)
def test_a_precision_that_cannot_be_had_says_why(
    precision: str, message: str, channel_model: Path
) -> None:
    options = BackendOptions(precision=precision)
    with pytest.raises(BackendError, match=message):
        create_backend(load_model(channel_model), 'onnxruntime', options)


def test_a_backend_whose_masks_are_wrong_is_closed_and_another_is_taken(
    channel_model: Path, monkeypatch: pytest.MonkeyPatch, closed: list[str]
) -> None:
    def check(backend: Backend, reference: object) -> str:
        if backend.name == 'openvino':
            raise BackendError('openvino computes wrong masks')
        return 'passed'

    monkeypatch.setattr(backends, '_reference', lambda model: 'a reference')
    monkeypatch.setattr(backends.self_check, 'check', check)
    started = create_backend(load_model(channel_model))
    assert (started.backend.name, started.self_check) == ('onnxruntime', 'passed')
    assert closed == ['openvino']
    with pytest.raises(BackendError, match='wrong masks'):
        create_backend(load_model(channel_model), 'openvino')
    assert closed == ['openvino', 'openvino']


def test_no_backend_stays_open_when_one_fails_unexpectedly(
    channel_model: Path, monkeypatch: pytest.MonkeyPatch, closed: list[str]
) -> None:
    def infer(backend: Backend, image: np.ndarray) -> None:
        raise MemoryError

    monkeypatch.setattr(backends.load_backend_class('onnxruntime'), 'infer', infer)
    with pytest.raises((BackendError, MemoryError)):
        create_backend(load_model(channel_model), 'onnxruntime')
    assert closed == ['onnxruntime']


def test_a_preferred_precision_without_a_file_gives_way(
    channel_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = backends.load_backend_class('onnxruntime')
    monkeypatch.setattr(backend, 'precisions', ('int8', 'fp32'))
    started = create_backend(load_model(channel_model), 'onnxruntime')
    assert started.backend.precision == 'fp32'
    assert 'there is no int8 file of channels' in started.self_check


def test_bfloat16_runs_the_fp32_file_where_the_processor_knows_it(
    channel_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(BACKENDS['openvino'][0])
    options = BackendOptions(precision='bf16')
    monkeypatch.setattr(module, 'computes_bfloat16', lambda core: False)
    with pytest.raises(BackendError, match='does not compute in bfloat16'):
        create_backend(load_model(channel_model), 'openvino', options)
    with pytest.raises(BackendError, match="'onnxruntime' cannot run in bf16, only in fp32, int8"):
        create_backend(load_model(channel_model), 'onnxruntime', options)
    monkeypatch.setattr(module, 'computes_bfloat16', lambda core: True)
    started = create_backend(load_model(channel_model), 'openvino', options)
    assert started.backend.precision == 'bf16'
    assert started.backend.model.precision == 'fp32'
