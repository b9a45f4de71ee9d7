"""Does the real TensorRT have what nightseg_ros uses of it, and the double no more than that?

Skipped where tensorrt or cuda-bindings is not installed. No GPU is needed.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / 'nightseg_ros' / 'core' / 'backends' / 'tensorrt'
SOURCES = [*sorted(PACKAGE.glob('*.py')), ROOT / 'nightseg_ros/core/engine_command.py']

# What not every version has: used behind hasattr or getattr.
OPTIONAL = {
    'IProgressMonitor',  # since 9
    'NetworkDefinitionCreationFlag.STRONGLY_TYPED',  # since 9, in 11 deprecated
    'NetworkDefinitionCreationFlag.EXPLICIT_BATCH',  # until 10
}

# Methods and properties by class, with the names of the arguments that we pass.
MEMBERS: dict[str, dict[str, tuple[str, ...]]] = {
    'Builder': {
        'create_network': ('flags',),
        'create_builder_config': (),
        'build_serialized_network': ('network', 'config'),
        'num_DLA_cores': (),
    },
    'IBuilderConfig': {
        'set_flag': ('flag',),
        'set_memory_pool_limit': ('pool', 'pool_size'),
        'create_timing_cache': ('serialized_timing_cache',),
        'set_timing_cache': ('cache', 'ignore_mismatch'),
        'default_device_type': (),
        'DLA_core': (),
        'profiling_verbosity': (),
    },
    'ITimingCache': {'combine': ('input_cache', 'ignore_mismatch'), 'serialize': ()},
    'OnnxParser': {'parse': ('model',), 'num_errors': (), 'get_error': ('index',)},
    'ParserError': {'node': (), 'desc': ()},
    'Runtime': {'deserialize_cuda_engine': ('serialized_engine',), 'DLA_core': ()},
    'ICudaEngine': {
        'num_io_tensors': (),
        'get_tensor_name': ('index',),
        'get_tensor_shape': ('name',),
        'get_tensor_dtype': ('name',),
        'create_execution_context': (),
        'create_engine_inspector': (),
    },
    'EngineInspector': {'get_engine_information': ('format',)},
    'IExecutionContext': {
        'set_tensor_address': ('name', 'memory'),
        'execute_async_v3': ('stream_handle',),
    },
}


@pytest.fixture(scope='module')
def trt() -> ModuleType:
    try:
        return pytest.importorskip('tensorrt', reason='tensorrt is not installed')
    except OSError as error:
        pytest.skip(f'tensorrt does not load: {error}')


@pytest.fixture(scope='module')
def cudart() -> ModuleType:
    try:
        from cuda.bindings import runtime
    except ImportError:
        runtime = pytest.importorskip('cuda.cudart', reason='cuda-bindings is not installed')
    return runtime


@pytest.fixture(scope='module')
def double_module() -> ModuleType:
    path = Path(__file__).with_name('tensorrt_double.py')
    spec = importlib.util.spec_from_file_location('tensorrt_double', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chains(name: str) -> set[str]:
    """Return 'A.b' for each ``<name>.A.b`` in the sources."""
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            parts: list[str] = []
            while isinstance(node, ast.Attribute):
                parts.insert(0, node.attr)
                node = node.value
            if isinstance(node, ast.Name) and node.id == name and parts:
                found.add('.'.join(parts))
    return found


def lookup(module: Any, chain: str) -> Any:
    for part in chain.split('.'):
        module = getattr(module, part)
    return module


def public(thing: object) -> Iterator[str]:
    return (name for name in dir(thing) if not name.startswith('_'))


def test_the_sources_are_read() -> None:
    assert {'Builder', 'BuilderFlag', 'MemoryPoolType.WORKSPACE'} <= chains('trt')
    assert {'cudaMalloc', 'cudaMemcpyKind.cudaMemcpyHostToDevice'} <= chains('cudart')


def test_names_of_tensorrt_exist(trt: ModuleType) -> None:
    for chain in sorted(chains('trt')):
        if not any(chain == name or chain.startswith(f'{name}.') for name in OPTIONAL):
            assert lookup(trt, chain) is not None, chain
    major = int(trt.__version__.split('.')[0])
    assert hasattr(trt, 'IProgressMonitor') == (major >= 9)
    assert hasattr(trt.NetworkDefinitionCreationFlag, 'STRONGLY_TYPED') == (major >= 9)
    assert hasattr(trt.NetworkDefinitionCreationFlag, 'EXPLICIT_BATCH') == (major < 11)
    assert hasattr(trt.BuilderFlag, 'FP16') == hasattr(trt.BuilderFlag, 'INT8') == (major < 11)
    assert hasattr(trt.BuilderFlag, 'GPU_FALLBACK')
    engine = trt.ICudaEngine
    assert hasattr(engine, 'device_memory_size') or hasattr(engine, 'device_memory_size_v2')


@pytest.mark.parametrize('class_name', sorted(MEMBERS))
def test_members_of_tensorrt_take_our_arguments(trt: ModuleType, class_name: str) -> None:
    for member, arguments in MEMBERS[class_name].items():
        found = getattr(getattr(trt, class_name), member)
        signature = (found.__doc__ or '').splitlines()[0] if arguments else ''
        names = re.findall(r'(\w+):', signature)
        assert set(arguments) <= set(names), f'{class_name}.{member}: {signature}'


def test_severities_are_those_of_the_logger(trt: ModuleType) -> None:
    severities = trt.ILogger.Severity
    for name in ('INTERNAL_ERROR', 'ERROR', 'WARNING', 'INFO', 'VERBOSE'):
        assert getattr(severities, name).name == name


def test_the_double_has_no_more_than_tensorrt(trt: ModuleType, double_module: ModuleType) -> None:
    release = trt.__version__.split('.')
    like = [v for v in double_module.VERSIONS if v.split('.')[0] == release[0]]
    version = next((v for v in like if v.split('.')[1] == release[1]), like[0])
    double = double_module.Double(version)
    fake = double.tensorrt
    logger = fake.ILogger()
    builder = fake.Builder(logger)
    things = [(name, getattr(fake, name)) for name in public(fake)]
    # Attributes that their constructors set.
    things += [
        ('IBuilderConfig', builder.create_builder_config()),
        ('Runtime', fake.Runtime(logger)),
    ]
    for name, thing in things:
        real = getattr(trt, name)
        for member in public(thing):
            missing_in_real = not hasattr(real, member)
            # Python's tuple and int lend methods to Dims and the enumerations.
            lent = hasattr(tuple, member) or hasattr(int, member)
            assert lent or not missing_in_real, f'{name}.{member}'


def test_names_of_cuda_exist(cudart: ModuleType) -> None:
    for chain in chains('cudart'):
        assert lookup(cudart, chain) is not None, chain
    properties = cudart.cudaDeviceProp()
    for field in ('name', 'major', 'minor', 'integrated'):
        assert hasattr(properties, field)
    assert isinstance(properties.name, bytes)
    assert cudart.cudaHostAllocDefault == 0


def test_the_double_has_no_more_than_cuda(cudart: ModuleType, double_module: ModuleType) -> None:
    fake = double_module.Double().cuda.module
    for name in public(fake):
        real = getattr(cudart, name)
        if isinstance(getattr(fake, name), int):
            assert int(real) == getattr(fake, name), name
        elif isinstance(getattr(fake, name), type):
            for member in getattr(fake, name):
                assert int(getattr(real, member.name)) == member, member
        else:
            expected = getattr(fake, name).arguments
            signature = re.search(r'\((.*?)\)', real.__doc__).group(1)
            assert len([a for a in signature.split(',') if a.strip()]) == expected, name


def test_without_a_gpu_the_real_packages_say_so(
    trt: ModuleType, cudart: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nightseg_ros.core.backends import BackendError
    from nightseg_ros.core.backends.tensorrt.builder import _builder
    from nightseg_ros.core.backends.tensorrt.cuda import Device

    if int(cudart.cudaGetDeviceCount()[0]) == 0:
        pytest.skip('there is a GPU')
    with pytest.raises(BackendError, match='cudaGetDeviceCount failed .*is the driver loaded'):
        Device.find(0)
    with pytest.raises(BackendError, match='TensorRT cannot start: .*CUDA|gave no reason'):
        _builder()
