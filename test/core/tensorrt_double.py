# ruff: noqa: N802, N815
"""TensorRT and CUDA in memory, for machines without a GPU.

Only what nightseg_ros uses, each member named as in the real packages (``test_tensorrt_surface.py``
compares them). Device memory is real bytes, work runs only when somebody waits for it, and networks
compute what their ONNX says: a missing copy, wait or address shows in the masks. The parser and
the builder refuse what the real ones refuse (see ``onnx_adaptation`` and ``recipe``).
"""

from __future__ import annotations

import ctypes
import enum
import hashlib
import json
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

VERSIONS = ('8.5.3.1', '8.6.1', '10.7.0', '11.1.0')


class Double:
    """A machine with GPUs, CUDA and one version of TensorRT.

    Attributes:
        builds: what was built, in order.
        failing: name of a CUDA function -> name of the error that it returns.
        capture_works: whether the network can be captured as a graph.
        build_seconds: how long a build takes.
        context_fails: whether there is no memory for an execution context.
        launches: how a run was queued: 'graph' or 'network'.
    """

    def __init__(
        self, version: str = '10.7.0', gpus: tuple[str, ...] = ('Fake GPU',), dla_cores: int = 0,
        integrated: bool = False, capability: tuple[int, int] = (8, 7), cuda_version: int = 12060,
    ) -> None:  # fmt: skip
        self.version = version
        self.gpus = gpus
        self.dla_cores = dla_cores
        self.integrated = integrated
        self.capability = capability
        self.cuda_version = cuda_version
        self.builds: list[dict[str, Any]] = []
        self.failing: dict[str, str] = {}
        self.capture_works = True
        self.build_seconds = 0.0
        self.context_fails = False
        self.launches: list[str] = []
        self.cuda = Cuda(self)
        self.tensorrt = make_tensorrt(self)

    def modules(self) -> dict[str, ModuleType]:
        """Return what belongs into ``sys.modules``."""
        cuda, bindings = ModuleType('cuda'), ModuleType('cuda.bindings')
        cuda.bindings = bindings  # type: ignore[attr-defined]
        bindings.runtime = self.cuda.module  # type: ignore[attr-defined]
        return {
            'cuda': cuda,
            'cuda.bindings': bindings,
            'cuda.bindings.runtime': self.cuda.module,
            'tensorrt': self.tensorrt,
        }


# CUDA


class ErrorCode(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorInvalidDevice = 101
    cudaErrorInvalidResourceHandle = 400
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


OK = ErrorCode.cudaSuccess
MemcpyKind = enum.IntEnum(
    'cudaMemcpyKind', {'cudaMemcpyHostToDevice': 1, 'cudaMemcpyDeviceToHost': 2}
)
CaptureMode = enum.IntEnum(
    'cudaStreamCaptureMode',
    {'cudaStreamCaptureModeGlobal': 0, 'cudaStreamCaptureModeThreadLocal': 1},
)


class Properties:
    def __init__(self, name: str, capability: tuple[int, int], integrated: bool) -> None:
        self.name = name.encode() + b'\0\0'
        self.major, self.minor = capability
        self.integrated = int(integrated)


class StreamState:
    def __init__(self, device: int) -> None:
        self.device = device
        self.work: list[Callable[[], None]] = []
        self.captured: list[Callable[[], None]] | None = None
        self.invalidated = False

    def queue(self, work: Callable[[], None]) -> None:
        (self.work if self.captured is None else self.captured).append(work)


class Cuda:
    """State of the GPUs, and the module ``cuda.bindings.runtime`` over it."""

    def __init__(self, double: Double) -> None:
        self._double = double
        self._current = threading.local()
        self._pending: ErrorCode = OK
        self.memory: dict[int, tuple[str, Any]] = {}
        self.live: dict[int, object] = {}  # streams, events, graphs
        self.module = ModuleType('cuda.bindings.runtime')
        for name in dir(self):
            if name.startswith('cuda'):
                setattr(self.module, name, self._wrapped(getattr(self, name)))
        constants = {
            'cudaError_t': ErrorCode, 'cudaMemcpyKind': MemcpyKind,
            'cudaStreamCaptureMode': CaptureMode, 'cudaHostAllocMapped': 2,
            'cudaStreamNonBlocking': 1, 'cudaEventBlockingSync': 1, 'cudaEventDisableTiming': 2,
        }  # fmt: skip
        for name, value in constants.items():
            setattr(self.module, name, value)

    def _wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> tuple[Any, ...]:
            error = self._double.failing.get(function.__name__)
            if error:
                return ErrorCode[error], None
            return function(*arguments)

        call.__name__ = function.__name__
        call.arguments = function.__code__.co_argcount - 1  # type: ignore[attr-defined]
        return call

    @property
    def device(self) -> int:
        """The current device of this thread."""
        return getattr(self._current, 'device', 0)

    def stream(self, handle: int) -> StreamState:
        stream = self.live[handle]
        assert isinstance(stream, StreamState)
        assert stream.device == self.device, 'work for the stream of another device'
        return stream

    def view(self, address: int, size: int, *kinds: str) -> Any:
        """Return the bytes at an address, which must lie in one allocation of these kinds."""
        for start, (kind, content) in self.memory.items():
            if start <= address and address + size <= start + len(content):
                assert kind in kinds, f'{kind} memory where {kinds} is needed'
                offset = address - start
                return memoryview(content).cast('B')[offset : offset + size]
        raise AssertionError(f'no allocation holds {size} bytes at {address}')

    def _allocate(self, size: int, kind: str) -> tuple[ErrorCode, int]:
        content = (ctypes.c_uint8 * size)(*([0xA5] * min(size, 64)))
        address = ctypes.addressof(content)
        self.memory[address] = (kind, content)
        return OK, address

    def _free(self, address: int, *kinds: str) -> tuple[ErrorCode]:
        assert self.memory[address][0] in kinds
        del self.memory[address]
        return (OK,)

    def _make(self, thing: object) -> tuple[ErrorCode, int]:
        self.live[id(thing)] = thing
        return OK, id(thing)

    def _destroy(self, handle: int) -> tuple[ErrorCode]:
        del self.live[handle]
        return (OK,)

    def cudaGetDeviceCount(self):
        if not self._double.gpus:
            return ErrorCode.cudaErrorNoDevice, None
        return OK, len(self._double.gpus)

    def cudaGetDeviceProperties(self, device):
        double = self._double
        return OK, Properties(double.gpus[device], double.capability, double.integrated)

    def cudaRuntimeGetVersion(self):
        return OK, self._double.cuda_version

    def cudaSetDevice(self, device):
        if not 0 <= device < len(self._double.gpus):
            return (ErrorCode.cudaErrorInvalidDevice,)
        self._current.device = device
        return (OK,)

    def cudaGetErrorName(self, error):
        return OK, ErrorCode(error).name.encode()

    def cudaGetErrorString(self, error):
        return OK, f'text of {ErrorCode(error).name}'.encode()

    def cudaGetLastError(self):
        pending, self._pending = self._pending, OK
        return (pending,)

    def cudaMalloc(self, size):
        return self._allocate(size, 'device')

    def cudaFree(self, address):
        return self._free(address, 'device')

    def cudaHostAlloc(self, size, flags):
        return self._allocate(size, 'mapped' if flags & 2 else 'host')

    def cudaFreeHost(self, address):
        return self._free(address, 'host', 'mapped')

    def cudaHostGetDevicePointer(self, address, flags):
        assert self.memory[address][0] == 'mapped'
        return OK, address

    def cudaStreamCreateWithFlags(self, flags):
        return self._make(StreamState(self.device))

    def cudaStreamDestroy(self, stream):
        return self._destroy(stream)

    def cudaEventCreateWithFlags(self, flags):
        assert flags & 1, 'an event that spins'
        return self._make([])

    def cudaEventRecord(self, event, stream):
        self.live[event][:] = [self.stream(stream)]
        return (OK,)

    def cudaEventSynchronize(self, event):
        (stream,) = self.live[event]
        work, stream.work = stream.work, []
        for step in work:
            step()
        return (OK,)

    def cudaEventDestroy(self, event):
        return self._destroy(event)

    def cudaMemcpyAsync(self, target, source, size, kind, stream):
        kinds = (('device',), ('host',))
        to, from_ = kinds if kind == MemcpyKind.cudaMemcpyHostToDevice else kinds[::-1]

        def copy():
            self.view(target, size, *to)[:] = self.view(source, size, *from_)

        self.stream(stream).queue(copy)
        return (OK,)

    def cudaStreamBeginCapture(self, stream, mode):
        assert mode == CaptureMode.cudaStreamCaptureModeThreadLocal
        self.stream(stream).captured = []
        return (OK,)

    def cudaStreamEndCapture(self, stream):
        state = self.stream(stream)
        work, state.captured = state.captured, None
        if state.invalidated:
            state.invalidated = False
            self._pending = ErrorCode.cudaErrorStreamCaptureInvalidated
            return self._pending, None
        return self._make(work)

    def cudaGraphInstantiateWithFlags(self, graph, flags):
        return self._make(list(self.live[graph]))

    def cudaGraphDestroy(self, graph):
        return self._destroy(graph)

    def cudaGraphExecDestroy(self, executable):
        return self._destroy(executable)

    def cudaGraphLaunch(self, executable, stream):
        self._double.launches.append('graph')
        for work in self.live[executable]:
            self.stream(stream).queue(work)
        return (OK,)


# TensorRT


def make_tensorrt(double: Double) -> ModuleType:
    """Return the module ``tensorrt`` of one version."""
    major = int(double.version.split('.')[0])
    trt = ModuleType('tensorrt')
    builder_flags = ['GPU_FALLBACK', 'TF32'] + (['FP16', 'INT8'] if major < 11 else [])
    network_flags = (['EXPLICIT_BATCH'] if major < 11 else []) + (
        ['STRONGLY_TYPED'] if major >= 10 else []
    )

    class ILogger:
        Severity = enum.IntEnum(
            'Severity', ['INTERNAL_ERROR', 'ERROR', 'WARNING', 'INFO', 'VERBOSE'], start=0
        )

        def __init__(self):
            pass

    class ParserError:
        def __init__(self, node, desc):
            self._node, self._desc = node, desc

        def node(self):
            return self._node

        def desc(self):
            return self._desc

    class Dims(tuple):
        pass

    class ITimingCache:
        def __init__(self, content):
            self._kernels = set(filter(None, content.split(b'|')))

        def serialize(self):
            return memoryview(b'|'.join(sorted(self._kernels)))

        def combine(self, input_cache, ignore_mismatch):
            self._kernels |= input_cache._kernels
            return True

    class IBuilderConfig:
        def __init__(self):
            self._flags = set()
            self._limits = {}
            self._timings = None
            self.default_device_type = trt.DeviceType.GPU
            self.DLA_core = -1
            self.profiling_verbosity = None
            if major >= 10:
                self.progress_monitor = None

        def set_flag(self, flag):
            self._flags.add(flag.name)

        def set_memory_pool_limit(self, pool, pool_size):
            self._limits[pool.name] = pool_size

        def create_timing_cache(self, serialized_timing_cache):
            if serialized_timing_cache.startswith(b'garbage'):
                return None
            return ITimingCache(serialized_timing_cache)

        def set_timing_cache(self, cache, ignore_mismatch):
            self._timings = cache
            return True

    class INetworkDefinition:
        def __init__(self, flags):
            self._names = {f.name for f in trt.NetworkDefinitionCreationFlag if flags >> f & 1}
            self._proto = None

    class OnnxParser:
        def __init__(self, network, logger):
            self._network = network
            self._errors = []

        @property
        def num_errors(self):
            return len(self._errors)

        def get_error(self, index):
            return self._errors[index]

        def parse(self, model):
            if major < 10 and 'EXPLICIT_BATCH' not in self._network._names:
                self._errors = [ParserError(0, 'the network must have explicit batch')]
                return False
            proto = onnx.load_model_from_string(model)
            self._errors = [ParserError(*problem) for problem in uint8_problems(proto)]
            self._network._proto = proto
            return not self._errors

    class Builder:
        def __init__(self, logger):
            if not double.gpus:
                logger.log(ILogger.Severity.ERROR, 'CUDA initialization failure with error: 100')
                raise TypeError('pybind11::init(): factory function returned nullptr')
            self._logger = logger

        @property
        def num_DLA_cores(self):
            return double.dla_cores

        def create_network(self, flags=0):
            return INetworkDefinition(flags)

        def create_builder_config(self):
            return IBuilderConfig()

        def build_serialized_network(self, network, config):
            problem = build_problem(network, config)
            if problem:
                self._logger.log(ILogger.Severity.ERROR, problem)
                return None
            monitor = getattr(config, 'progress_monitor', None)
            for step in range(4):
                if monitor:
                    if step == 0:
                        monitor.phase_start('Building Engine', None, 4)
                        monitor.phase_start('Timing', 'Building Engine', 0)
                    assert monitor.step_complete('Building Engine', step), 'cancelled'
                time.sleep(double.build_seconds / 4)
            if monitor:
                monitor.phase_finish('Timing')
                monitor.phase_finish('Building Engine')
            onnx_bytes = network._proto.SerializeToString(deterministic=True)
            config._timings._kernels.add(hashlib.sha256(onnx_bytes).hexdigest()[:8].encode())
            double.builds.append({
                'flags': config._flags, 'network': network._names, 'dla': config.DLA_core,
                'limits': config._limits, 'device': config.default_device_type.name,
                'kernels': len(config._timings._kernels),
            })  # fmt: skip
            header = {
                'version': double.version,
                'gpu': double.gpus[double.cuda.device],
                'sha256': hashlib.sha256(onnx_bytes).hexdigest(),
            }
            return memoryview(json.dumps(header).encode() + b'\n' + onnx_bytes)

    def build_problem(network, config):
        typed = major >= 11 or 'STRONGLY_TYPED' in network._names
        if typed and config._flags & {'FP16', 'INT8'}:
            return 'precision flags are not allowed in strongly typed networks'
        quantised = any(n.op_type == 'QuantizeLinear' for n in network._proto.graph.node)
        if 'INT8' in config._flags and not quantised:
            return 'INT8 without calibrator and without Q/DQ'
        if config.default_device_type == trt.DeviceType.DLA:
            if not typed and not config._flags & {'FP16', 'INT8'}:
                return 'DLA needs FP16 or INT8'
            if 'GPU_FALLBACK' not in config._flags:
                return 'layer image_cast cannot run on DLA, and GPU fallback is off'
        return None

    class Runtime:
        def __init__(self, logger):
            self._logger = logger
            self.DLA_core = -1

        def deserialize_cuda_engine(self, serialized_engine):
            try:
                header, content = bytes(serialized_engine).split(b'\n', 1)
                facts = json.loads(header)
                if facts['version'] != double.version:
                    raise ValueError(f'built by TensorRT {facts["version"]}')
                if facts['sha256'] != hashlib.sha256(content).hexdigest():
                    raise ValueError('the engine is truncated')
            except (ValueError, KeyError) as error:
                self._logger.log(ILogger.Severity.ERROR, f'Serialization failed: {error}')
                return None
            return ICudaEngine(self, onnx.load_model_from_string(content))

    class ICudaEngine:
        def __init__(self, runtime, proto):
            self._logger = runtime._logger
            self._proto = proto
            self._device = double.cuda.device
            self._io = [*proto.graph.input, *proto.graph.output]

        @property
        def num_io_tensors(self):
            return len(self._io)

        @property
        def num_layers(self):
            return len(self._proto.graph.node)

        def get_tensor_name(self, index):
            return self._io[index].name

        def _value(self, name):
            return next(value.type.tensor_type for value in self._io if value.name == name)

        def get_tensor_shape(self, name):
            return Dims(d.dim_value for d in self._value(name).shape.dim)

        def get_tensor_dtype(self, name):
            uint8 = self._value(name).elem_type == TensorProto.UINT8
            return trt.DataType.UINT8 if uint8 else trt.DataType.FLOAT

        def create_execution_context(self):
            if double.context_fails:
                self._logger.log(ILogger.Severity.ERROR, 'Requested amount of GPU memory')
                return None
            return IExecutionContext(self)

        def create_engine_inspector(self):
            return EngineInspector(self)

        if major < 11:
            device_memory_size = property(lambda self: 4096)
        if major >= 10:
            device_memory_size_v2 = property(lambda self: 4096)

    class EngineInspector:
        def __init__(self, engine):
            self._engine = engine

        def get_engine_information(self, format):
            assert format == trt.LayerInformationFormat.JSON
            layers = [
                {'Name': n.name, 'LayerType': n.op_type, 'Outputs': [{'Format/Datatype': 'Half'}]}
                for n in self._engine._proto.graph.node
            ]
            return json.dumps({'Layers': layers, 'Bindings': ['image', 'labels']})

    class IExecutionContext:
        def __init__(self, engine):
            self._engine = engine
            self._addresses = {}
            self._run = ReferenceEvaluator(engine._proto)

        def set_tensor_address(self, name, memory):
            assert name in [value.name for value in self._engine._io]
            self._addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle):
            stream = double.cuda.stream(stream_handle)
            assert self._engine._device == double.cuda.device
            if double.cuda.cudaGetLastError() != (OK,):
                self._engine._logger.log(ILogger.Severity.ERROR, 'an earlier call failed')
                return False
            if stream.captured is None:
                double.launches.append('network')
            elif not double.capture_works:
                stream.invalidated = True
                self._engine._logger.log(ILogger.Severity.ERROR, 'not permitted when capturing')
                return False
            stream.queue(self._infer)
            return True

        def _infer(self):
            (image,) = self._engine._proto.graph.input
            shape = self._engine.get_tensor_shape(image.name)
            on_device = ('device', 'mapped')
            content = double.cuda.view(self._addresses['image'], int(np.prod(shape)), *on_device)
            masks = self._run.run(None, {'image': np.frombuffer(content, np.uint8).reshape(shape)})
            for value, mask in zip(self._engine._proto.graph.output, masks, strict=True):
                assert mask.dtype == np.uint8
                address = self._addresses[value.name]
                double.cuda.view(address, mask.size, *on_device)[:] = mask.tobytes()

    class IProgressMonitor:
        def __init__(self):
            pass

    trt.__version__ = double.version
    trt.BuilderFlag = enum.IntEnum('BuilderFlag', builder_flags, start=0)
    trt.NetworkDefinitionCreationFlag = enum.IntEnum(
        'NetworkDefinitionCreationFlag', network_flags, start=0
    )
    trt.DeviceType = enum.IntEnum('DeviceType', ['GPU', 'DLA'], start=0)
    trt.DataType = enum.IntEnum('DataType', ['FLOAT', 'HALF', 'INT8', 'UINT8'], start=0)
    trt.MemoryPoolType = enum.IntEnum('MemoryPoolType', ['WORKSPACE'], start=0)
    trt.ProfilingVerbosity = enum.IntEnum('ProfilingVerbosity', ['DETAILED'], start=2)
    trt.LayerInformationFormat = enum.IntEnum('LayerInformationFormat', ['ONELINE', 'JSON'])
    classes = [ILogger, ParserError, ITimingCache, IBuilderConfig, INetworkDefinition, OnnxParser]
    classes += [Builder, Runtime, ICudaEngine, EngineInspector, IExecutionContext, Dims]
    classes += [IProgressMonitor] if major >= 10 else []
    for class_ in classes:
        setattr(trt, class_.__name__, class_)
    return trt


def uint8_problems(proto: onnx.ModelProto) -> Iterator[tuple[int, str]]:
    """Return what the ONNX parsers of TensorRT 8.5 to 11, together, refuse of uint8."""
    typed = onnx.shape_inference.infer_shapes(proto, strict_mode=True).graph
    types = {
        v.name: v.type.tensor_type.elem_type
        for v in [*typed.input, *typed.output, *typed.value_info]
    }
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    outputs = {value.name for value in typed.output}
    for index, node in enumerate(typed.node):
        for name in node.input:
            if types.get(name) == TensorProto.UINT8:
                cast = node.op_type == 'Cast' and types[node.output[0]] in floats
                if not cast:
                    yield index, f'{node.op_type} does not take UINT8'
        for name in node.output:
            if types.get(name) == TensorProto.UINT8:
                if node.op_type != 'Cast' or types[node.input[0]] not in floats:
                    yield index, 'UINT8 comes from a cast from FP32 or FP16 alone'
                if name not in outputs:
                    yield index, 'TensorRT does not support UINT8 types for intermediate tensors!'
