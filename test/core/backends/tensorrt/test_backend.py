from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from nightseg_ros.core.backends import BackendError
from nightseg_ros.core.backends import BackendOptions
from nightseg_ros.core.backends import create_backend
from nightseg_ros.core.model import load_model

FP16 = BackendOptions(precision='fp16')
VERSIONS = ['8.5.3.1', '8.6.1', '10.7.0', '11.1.0']


def make_backend(path: Path, options: BackendOptions = FP16, reports: list | None = None) -> Any:
    from nightseg_ros.core.backends.tensorrt import TensorRtBackend

    report = reports.append if reports is not None else lambda _: None
    return TensorRtBackend(load_model(path), options, report)


def write_variant(path: Path, precision: str, quantised: bool = False) -> Path:
    """Write a file as ``python -m training quantize`` does, with the same function in it."""
    model = load_model(path)
    proto = onnx.load_model_from_string(model.content)
    if quantised:  # TensorRT refuses INT8 without them
        one = onnx.numpy_helper.from_array(np.float32(1), 'one')
        zero = onnx.numpy_helper.from_array(np.int8(0), 'zero')
        proto.graph.initializer.extend([one, zero])
        proto.graph.node.append(
            onnx.helper.make_node('QuantizeLinear', ['one', 'one', 'zero'], ['unused'])
        )
    card = {'precision': precision, 'quantized_from': model.sha256}
    onnx.helper.set_model_props(proto, card)
    target = path.with_name(f'{path.stem}_{precision}.onnx')
    onnx.save(proto, str(target))
    return target


def assert_channels(result: Any, frame: np.ndarray) -> None:
    for output, channel in zip(result, range(3), strict=True):
        assert (output == frame[..., channel]).all()


@pytest.mark.parametrize('integrated', [False, True])
@pytest.mark.parametrize('version', VERSIONS)
def test_outputs_are_the_models(
    version: str, integrated: bool, install: Callable, channel_model: Path, frame: np.ndarray
) -> None:
    double = install(version, integrated=integrated)
    write_variant(channel_model, 'fp16')
    backend = make_backend(channel_model)
    for image in (frame, frame[::-1], frame[:, ::-1]):
        assert_channels(backend.infer(np.ascontiguousarray(image[None])), image)
    backend.input[:] = frame
    assert_channels(backend.infer(backend.input), frame)
    assert double.launches == ['network'] * 2 + ['graph'] * 4
    kinds = {kind for kind, _ in double.cuda.memory.values()}
    assert kinds == ({'mapped'} if integrated else {'host', 'device'})


def test_a_model_without_exposure_stream_has_none(
    install: Callable, tmp_path: Path, make_channel_model: Callable[..., Path]
) -> None:
    install()
    backend = make_backend(make_channel_model(tmp_path / 'plain.onnx', 8, 8, exposure=False))
    assert backend.infer(np.zeros((1, 8, 8, 3), np.uint8)).exposure is None


@pytest.mark.parametrize(
    ('version', 'precision', 'variants', 'flags', 'network', 'model'),
    [
        ('8.5.3.1', 'fp32', '', set(), {'EXPLICIT_BATCH'}, 'channels'),
        ('8.5.3.1', 'fp16', '', {'FP16'}, {'EXPLICIT_BATCH'}, 'channels'),
        ('8.6.1', 'fp16', 'fp16', {'FP16'}, {'EXPLICIT_BATCH'}, 'channels'),
        ('8.6.1', 'int8', 'int8', {'INT8', 'FP16'}, {'EXPLICIT_BATCH'}, 'channels_int8'),
        ('10.7.0', 'fp32', 'fp16', set(), {'EXPLICIT_BATCH'}, 'channels'),
        ('10.7.0', 'fp16', '', {'FP16'}, {'EXPLICIT_BATCH'}, 'channels'),
        ('10.7.0', 'fp16', 'fp16', set(), {'EXPLICIT_BATCH', 'STRONGLY_TYPED'}, 'channels_fp16'),
        ('10.7.0', 'int8', 'int8', {'INT8', 'FP16'}, {'EXPLICIT_BATCH'}, 'channels_int8'),
        ('11.1.0', 'fp32', '', set(), {'STRONGLY_TYPED'}, 'channels'),
        ('11.1.0', 'fp16', 'fp16', set(), {'STRONGLY_TYPED'}, 'channels_fp16'),
        ('11.1.0', 'int8', 'int8', set(), {'STRONGLY_TYPED'}, 'channels_int8'),
    ],
)
def test_each_version_is_told_the_precision_in_its_way(
    install: Callable, channel_model: Path, version: str, precision: str, variants: str,
    flags: set[str], network: set[str], model: str,
) -> None:  # fmt: skip
    double = install(version)
    if variants:
        write_variant(channel_model, variants, quantised=variants == 'int8')
    backend = make_backend(channel_model, BackendOptions(precision=precision))
    (build,) = double.builds
    assert (build['flags'], build['network']) == (flags, network)
    assert (backend.model.name, backend.precision) == (model, precision)
    assert backend.describe()['engine'].startswith(
        str(Path(backend.describe()['engine']).parent / f'channels_{precision}_')
    )


@pytest.mark.parametrize(('version', 'precision'), [('11.1.0', 'fp16'), ('8.6.1', 'int8')])
def test_a_missing_file_of_a_precision_says_how_to_make_it(
    install: Callable, channel_model: Path, version: str, precision: str
) -> None:
    install(version)
    with pytest.raises(BackendError, match=f'channels_{precision}.onnx beside') as failure:
        make_backend(channel_model, BackendOptions(precision=precision))
    assert 'python -m training quantize' in str(failure.value)


def test_auto_goes_on_to_fp32(install: Callable, channel_model: Path) -> None:
    install('11.1.0')
    started = create_backend(load_model(channel_model))
    assert (started.backend.name, started.backend.precision) == ('tensorrt', 'fp32')
    assert 'there is no fp16 file' in started.self_check


def test_another_thread_may_infer(
    install: Callable, channel_model: Path, frame: np.ndarray
) -> None:
    install(gpus=('First', 'Second'))
    backend = make_backend(channel_model, replace(FP16, device=1))
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(backend.infer(frame[None])))
    thread.start()
    thread.join()
    assert_channels(results[0], frame)
    assert 'Second' in backend.describe()['gpu']


def test_close_frees_everything_twice(install: Callable, channel_model: Path) -> None:
    double = install()
    backend = make_backend(channel_model)
    image = backend.input
    backend.close()
    backend.close()
    assert not double.cuda.live
    assert {kind for kind, _ in double.cuda.memory.values()} == {'host'}
    image[:] = 1  # somebody's view is never left without its memory
    del image
    assert not double.cuda.memory
    with pytest.raises(BackendError, match='was closed'):
        backend.infer(np.zeros((1, 32, 48, 3), np.uint8))


def test_without_graph_it_still_runs_and_says_why(
    install: Callable, channel_model: Path, frame: np.ndarray
) -> None:
    double = install()
    double.capture_works = False
    backend = make_backend(channel_model)
    assert_channels(backend.infer(frame[None]), frame)
    assert backend.describe()['cuda_graph'].startswith('no: TensorRT failed: not permitted')
    assert set(double.launches) == {'network'}
    backend.close()
    assert not double.cuda.live


def test_a_capture_that_fails_at_its_end(
    install: Callable, channel_model: Path, frame: np.ndarray
) -> None:
    double = install()
    double.failing['cudaGraphInstantiateWithFlags'] = 'cudaErrorStreamCaptureUnsupported'
    backend = make_backend(channel_model)
    assert_channels(backend.infer(frame[None]), frame)
    assert 'cudaErrorStreamCaptureUnsupported' in backend.describe()['cuda_graph']
    backend.close()
    assert not double.cuda.live


def test_description(install: Callable, channel_model: Path) -> None:
    install('8.5.3.1', gpus=('Orin',), integrated=True)
    facts = make_backend(channel_model).describe()
    assert facts['tensorrt'] == '8.5.3.1'
    assert facts['cuda'] == '12.6'
    assert facts['gpu'] == 'Orin (compute capability 8.7)'
    assert facts['typing'] == 'weakly typed, from channels.onnx, flags FP16'
    assert facts['cuda_graph'] == 'yes'
    assert facts['device_memory_bytes'] == '4096'
    assert facts['copies'].startswith('none')
    assert facts['built'].startswith('built at')
    assert facts['key'][:16] in facts['engine']
    assert make_backend(channel_model).describe()['built'].startswith('from cache, built at')


@pytest.mark.parametrize(
    ('function', 'error', 'remedy'),
    [
        ('cudaMalloc', 'cudaErrorMemoryAllocation', 'stop other programs'),
        ('cudaHostAlloc', 'cudaErrorMemoryAllocation', 'stop other programs'),
        ('cudaGetDeviceCount', 'cudaErrorInsufficientDriver', 'is the driver loaded'),
        ('cudaStreamCreateWithFlags', 'cudaErrorIllegalAddress', 'restart it'),
        ('cudaEventCreateWithFlags', 'cudaErrorInvalidValue', 'restart it'),
    ],
)
def test_an_error_at_the_start_says_what_to_do_and_leaves_nothing(
    install: Callable, channel_model: Path, function: str, error: str, remedy: str
) -> None:
    double = install()
    double.failing[function] = error
    with pytest.raises(BackendError, match=f'{function} failed with {error} .*{remedy}'):
        make_backend(channel_model)
    assert not double.cuda.live
    assert not double.cuda.memory


def test_no_memory_for_the_context(install: Callable, channel_model: Path) -> None:
    double = install()
    double.context_fails = True
    with pytest.raises(BackendError, match='want of GPU memory: Requested amount'):
        make_backend(channel_model)
    assert not double.cuda.live
    assert not double.cuda.memory


@pytest.mark.parametrize('function', ['cudaGraphLaunch', 'cudaEventSynchronize', 'cudaSetDevice'])
def test_an_error_while_running(install: Callable, channel_model: Path, function: str) -> None:
    double = install()
    backend = make_backend(channel_model)
    double.failing[function] = 'cudaErrorIllegalAddress'
    with pytest.raises(BackendError, match='cudaErrorIllegalAddress .*restart it'):
        backend.infer(np.zeros((1, 32, 48, 3), np.uint8))
    backend.close()


def test_an_image_of_another_size(install: Callable, channel_model: Path) -> None:
    install()
    backend = make_backend(channel_model)
    with pytest.raises(BackendError, match=r'\(1, 8, 8, 3\), the model takes \(1, 32, 48, 3\)'):
        backend.infer(np.zeros((1, 8, 8, 3), np.uint8))


def test_no_gpu_and_a_wrong_one(install: Callable, channel_model: Path) -> None:
    install(gpus=())
    with pytest.raises(BackendError, match='cudaErrorNoDevice.*nvidia-smi'):
        make_backend(channel_model)
    install()
    with pytest.raises(BackendError, match='there is no GPU 3, only 0 to 0'):
        make_backend(channel_model, replace(FP16, device=3))


def test_a_driver_that_is_missing_altogether(install: Callable, channel_model: Path) -> None:
    double = install()

    def cudaGetDeviceCount() -> None:  # noqa: N802
        raise RuntimeError('Failed to dlopen libcuda.so.1')

    double.cuda.module.cudaGetDeviceCount = cudaGetDeviceCount
    with pytest.raises(BackendError, match='dlopen libcuda.so.1.*is the driver loaded'):
        make_backend(channel_model)


def test_without_the_packages_it_says_what_to_install(
    channel_model: Path, install: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    install()
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    with pytest.raises(BackendError, match='pip install tensorrt cuda-bindings'):
        create_backend(load_model(channel_model), 'tensorrt')


def test_libraries_that_do_not_load_are_an_import_error(
    channel_model: Path, install: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import sys

    install()
    (tmp_path / 'tensorrt.py').write_text("raise OSError('libnvinfer.so.10: cannot open')")
    monkeypatch.delitem(sys.modules, 'tensorrt')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackendError, match='libnvinfer.so.10: cannot open'):
        create_backend(load_model(channel_model), 'tensorrt')


def test_the_older_layout_of_cuda_python(
    channel_model: Path, install: Callable, frame: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    double = install()
    sys.modules['cuda'].cudart = double.cuda.module
    monkeypatch.delitem(sys.modules, 'cuda.bindings')
    monkeypatch.delitem(sys.modules, 'cuda.bindings.runtime')
    del sys.modules['cuda'].bindings
    assert_channels(make_backend(channel_model).infer(frame[None]), frame)


@pytest.mark.parametrize(
    ('version', 'cores', 'core', 'precision', 'fallback', 'message'),
    [
        ('8.5.3.1', 2, 1, 'fp16', True, ''),
        ('10.7.0', 2, 0, 'fp16', True, ''),
        ('8.5.3.1', 2, 2, 'fp16', True, 'no DLA core 2 .*it sees 2'),
        ('11.1.0', 0, 0, 'fp16', True, 'no DLA core 0 .*it sees 0'),
        ('8.5.3.1', 2, 0, 'fp32', True, 'a DLA computes in fp16 and int8 only'),
        ('8.5.3.1', 2, 0, 'fp16', False, 'cannot run on DLA, and GPU fallback is off'),
    ],
)
def test_dla(
    install: Callable, channel_model: Path, version: str, cores: int, core: int, precision: str,
    fallback: bool, message: str,
) -> None:  # fmt: skip
    double = install(version, dla_cores=cores, integrated=True)
    write_variant(channel_model, 'fp16')
    options = BackendOptions(precision=precision, dla_core=core, gpu_fallback=fallback)
    if message:
        with pytest.raises(BackendError, match=message):
            make_backend(channel_model, options)
        return
    assert make_backend(channel_model, options).describe()['dla_core'] == str(core)
    (build,) = double.builds
    assert (build['device'], build['dla']) == ('DLA', core)
    assert build['flags'] == {'FP16', 'GPU_FALLBACK'}
    assert build['limits'] == {'WORKSPACE': 1 << 30}
