"""From a model to an engine: keys, cache, progress, faults."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from onnx import TensorProto

from nightseg_ros.core.backends import BackendError
from nightseg_ros.core.backends import BackendOptions
from nightseg_ros.core.model import load_model

ROOT = Path(__file__).parents[4]
FP16 = BackendOptions(precision='fp16')


def make_backend(path: Path, options: BackendOptions = FP16, reports: list | None = None) -> Any:
    from nightseg_ros.core.backends.tensorrt import TensorRtBackend

    return TensorRtBackend(
        load_model(path), options, (lambda _: None) if reports is None else reports.append
    )


@pytest.mark.parametrize(
    'other',
    [
        {'version': '10.7.1'},
        {'gpus': ('Other GPU',)},
        {'capability': (9, 0)},
        {'cuda_version': 12080},
        {'integrated': True},
    ],
)
def test_another_machine_builds_another_engine(
    install: Callable, channel_model: Path, no_shared_cache: Path, other: dict[str, Any]
) -> None:
    assert not install().builds
    make_backend(channel_model)
    for _ in range(2):
        double = install()
        make_backend(channel_model)
        assert not double.builds
    double = install(**other)
    make_backend(channel_model)
    assert len(double.builds) == 1
    assert len(list(no_shared_cache.glob('channels_fp16_*.engine'))) == 2


def test_other_options_or_weights_build_another_engine(
    install: Callable, channel_model: Path, tmp_path: Path, make_channel_model: Callable
) -> None:
    double = install(dla_cores=2, gpus=('A', 'A'))
    make_backend(channel_model)
    make_backend(channel_model, replace(FP16, device=1))  # the same GPU: the same engine
    assert len(double.builds) == 1
    for number, changes in enumerate([{'precision': 'fp32'}, {'dla_core': 0}, {'dla_core': 1}]):
        make_backend(channel_model, replace(FP16, **changes))
        assert len(double.builds) == 2 + number
    make_channel_model(channel_model, 32, 64)
    make_backend(channel_model)
    proto = onnx.load(str(channel_model))
    proto.graph.initializer[0].int64_data[:] = [2]
    onnx.save(proto, str(channel_model))
    make_backend(channel_model)
    assert len(double.builds) == 6


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_key_depends_on_every_field(
    data: st.DataObject, install: Callable, channel_model: Path
) -> None:
    install()
    from nightseg_ros.core.backends.tensorrt.cuda import Device
    from nightseg_ros.core.backends.tensorrt.recipe import plan

    device = Device.find(0)
    recipe = plan(load_model(channel_model), FP16, device)
    strategies = {
        bytes: st.binary(), str: st.text(), int: st.integers(), bool: st.booleans(),
        tuple: st.tuples(st.text()),
    }  # fmt: skip
    name = data.draw(st.sampled_from([f.name for f in fields(recipe) if f.name not in ('model',)]))
    value = getattr(recipe, name)
    if name == 'device':
        part = data.draw(st.sampled_from(['name', 'compute_capability', 'runtime']))
        value, other = getattr(device, part), data.draw(st.text())
        changed = replace(recipe, device=replace(device, **{part: other}))
    else:
        other = data.draw(strategies[type(value)])
        changed = replace(recipe, **{name: other})
    assert (changed.key == recipe.key) == (value == other)
    assert recipe.key == plan(load_model(channel_model), FP16, device).key


@pytest.mark.parametrize(
    ('version', 'weights'), [('8.5.3.1', 'FLOAT'), ('8.6.1', 'FLOAT'), ('10.7.0', 'INT8')]
)
def test_tensorrt_8_gets_the_weights_of_the_int8_file_as_floats(
    version: str, weights: str, install: Callable
) -> None:
    install(version)
    from nightseg_ros.core.backends.tensorrt.cuda import Device
    from nightseg_ros.core.backends.tensorrt.recipe import plan

    recipe = plan(load_model(), BackendOptions(precision='int8'), Device.find(0))
    graph = onnx.load_model_from_string(recipe.onnx).graph
    quantised = {node.input[0] for node in graph.node if 'eLinear' in node.op_type}
    kinds = {
        TensorProto.DataType.Name(tensor.data_type)
        for tensor in graph.initializer
        if len(tensor.dims) == 4 and tensor.name in quantised
    }
    assert kinds == {weights}


def engine_file(folder: Path) -> Path:
    (path,) = folder.glob('*.engine')
    return path


@pytest.mark.parametrize('damage', ['truncate', 'empty', 'no JSON', 'foreign', 'other outputs'])
def test_a_bad_engine_is_built_again_once_and_says_why(
    install: Callable, channel_model: Path, no_shared_cache: Path, damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    double = install()
    make_backend(channel_model)
    path = engine_file(no_shared_cache)
    content = path.read_bytes()
    from nightseg_ros.core.backends.tensorrt.engine_cache import EngineCache

    facts = EngineCache()._facts(path.stem)
    if damage == 'truncate':
        path.write_bytes(content[:-7])
    elif damage == 'empty':
        path.write_bytes(b'')
    elif damage == 'no JSON':
        path.with_suffix('.json').unlink()
    elif damage == 'foreign':  # right sha256 and key, wrong TensorRT inside
        EngineCache().store(path.stem, content.replace(b'10.7.0', b'10.6.0'), facts)
    else:
        name = b'"sha256": "'
        proto = onnx.load_model_from_string(content.split(b'\n', 1)[1])
        proto.graph.output[0].name = 'masks'
        other = proto.SerializeToString()
        import hashlib

        header = content.split(b'\n', 1)[0].split(name)[0] + name
        EngineCache().store(
            path.stem, header + hashlib.sha256(other).hexdigest().encode() + b'"}\n' + other, facts
        )
    make_backend(channel_model)
    assert len(double.builds) == 2
    assert f'{path} is built again' in caplog.text
    make_backend(channel_model)
    assert len(double.builds) == 2


def test_an_unsafe_cache_is_refused_before_anything_is_built(
    install: Callable, channel_model: Path, tmp_path: Path
) -> None:
    double = install()
    folder = tmp_path / 'open'
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(BackendError, match='others may write into'):
        make_backend(channel_model, replace(FP16, engine_cache_dir=folder))
    assert not double.builds


def test_a_full_disk_does_not_stop_the_node(
    install: Callable, channel_model: Path, frame: Any, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, no_shared_cache: Path,
) -> None:  # fmt: skip
    double = install()

    def full(_: int) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    backend = make_backend(channel_model)
    assert (backend.infer(frame[None]).labels == frame[..., 0]).all()
    assert 'used from memory and built again at the next start' in caplog.text
    make_backend(channel_model)
    assert len(double.builds) == 2
    assert {path.suffix for path in no_shared_cache.iterdir()} == {'.lock'}


def test_two_processes_build_one_engine(channel_model: Path, tmp_path: Path) -> None:
    program = """
import sys; sys.path[:0] = sys.argv[1:3]
from pathlib import Path
import tensorrt_double
double = tensorrt_double.Double()
double.build_seconds = 1.0
sys.modules.update(double.modules())
from nightseg_ros.core.backends import BackendOptions
from nightseg_ros.core.backends.tensorrt import TensorRtBackend
from nightseg_ros.core.model import load_model
said = []
options = BackendOptions(precision='fp16', engine_cache_dir=Path(sys.argv[4]))
TensorRtBackend(load_model(sys.argv[3]), options, said.append)
print(len(double.builds), any('another process builds' in text for text in said))
"""
    arguments = [str(ROOT), str(ROOT / 'test/core'), str(channel_model), str(tmp_path / 'engines')]
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', program, *arguments], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = sorted(process.communicate()[0].split() for process in processes)
    assert said == [['0', 'True'], ['1', 'False']]


@pytest.mark.parametrize(
    ('version', 'phases'), [('8.5.3.1', False), ('10.7.0', True), ('11.1.0', True)]
)
def test_a_build_is_never_silent(
    install: Callable, channel_model: Path, version: str, phases: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    double = install(version)
    double.build_seconds = 0.2
    from nightseg_ros.core.backends.tensorrt import builder

    monkeypatch.setattr(builder, 'REPORT_EVERY', 0.02)
    reports: list[str] = []
    make_backend(channel_model, BackendOptions(precision='fp32'), reports)
    building = [text for text in reports if text.startswith('building the engine: ')]
    assert len(building) >= 5
    assert building[0] == 'building the engine: 0 s'
    if phases:
        assert 'building the engine: Building Engine 50 % > Timing 0 %, 0 s' in building
    else:
        assert set(building) == {'building the engine: 0 s'}
    assert reports[-1] == 'warming up TensorRT'
    double.builds.clear()
    make_backend(channel_model, BackendOptions(precision='fp32'), reports)
    assert any(text.startswith('loading ') for text in reports)


def test_the_parsers_errors_are_told(
    install: Callable, channel_model: Path, monkeypatch: pytest.MonkeyPatch, no_shared_cache: Path
) -> None:
    install()
    from nightseg_ros.core.backends.tensorrt import recipe

    monkeypatch.setattr(recipe, 'adapt_for_tensorrt', lambda proto: proto)
    with pytest.raises(BackendError, match='cannot parse .*channels.onnx: node 0: Gather does not'):
        make_backend(channel_model)
    assert {path.suffix for path in no_shared_cache.iterdir()} == {'.lock'}


def test_the_builders_errors_are_told(install: Callable, channel_model: Path) -> None:
    install(dla_cores=1)
    options = replace(FP16, dla_core=0, gpu_fallback=False)
    with pytest.raises(BackendError, match='cannot build channels.onnx in fp16 .*fallback is off'):
        make_backend(channel_model, options)


def test_an_engine_of_no_use_is_not_built_for_ever(
    install: Callable, channel_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    double = install()
    monkeypatch.setattr(
        double.tensorrt.Runtime, 'deserialize_cuda_engine', lambda self, serialized_engine: None
    )
    with pytest.raises(BackendError, match='TensorRT refuses the engine that it built'):
        make_backend(channel_model)
    assert len(double.builds) == 1


def test_builds_share_their_timings(
    install: Callable, channel_model: Path, no_shared_cache: Path, make_channel_model: Callable
) -> None:
    double = install()
    make_backend(channel_model)
    make_backend(make_channel_model(channel_model.with_name('wide.onnx'), 32, 64))
    assert [build['kernels'] for build in double.builds] == [1, 2]
    (timings,) = no_shared_cache.glob('*.cache')
    assert timings.name == 'timings_10.7.0_Fake-GPU.cache'
    timings.write_bytes(b'garbage')
    make_backend(make_channel_model(channel_model.with_name('high.onnx'), 64, 64))
    assert double.builds[-1]['kernels'] == 1
    assert not timings.read_bytes().startswith(b'garbage')


def test_messages_of_tensorrt_are_logged(
    install: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    install()
    from nightseg_ros.core.backends.tensorrt.logger import LOGGER

    with caplog.at_level(logging.DEBUG):
        for severity in LOGGER.Severity:
            LOGGER.log(severity, f'message of {severity.name}')
    levels = {record.message: record.levelname for record in caplog.records}
    assert levels['message of INTERNAL_ERROR'] == levels['message of ERROR'] == 'ERROR'
    assert levels['message of WARNING'] == 'WARNING'
    assert levels['message of INFO'] == levels['message of VERBOSE'] == 'DEBUG'
    assert LOGGER.take_errors() == 'message of INTERNAL_ERROR; message of ERROR'
    assert LOGGER.take_errors() == 'TensorRT gave no reason'
