"""TensorRT on an NVIDIA GPU, or a Jetson's DLA."""

from __future__ import annotations

from contextlib import ExitStack
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.backends.base import BackendError
from nightseg_ros.core.backends.base import BackendOptions
from nightseg_ros.core.backends.base import Inference
from nightseg_ros.core.backends.base import Report
from nightseg_ros.core.backends.tensorrt.cuda import Device
from nightseg_ros.core.backends.tensorrt.cuda import Graph
from nightseg_ros.core.backends.tensorrt.cuda import Stream
from nightseg_ros.core.backends.tensorrt.cuda import TensorMemory
from nightseg_ros.core.backends.tensorrt.engine_cache import EngineCache
from nightseg_ros.core.backends.tensorrt.engine_source import Engine
from nightseg_ros.core.backends.tensorrt.engine_source import get_engine
from nightseg_ros.core.backends.tensorrt.logger import LOGGER
from nightseg_ros.core.backends.tensorrt.recipe import plan
from nightseg_ros.core.model import FP16
from nightseg_ros.core.model import FP32
from nightseg_ros.core.model import IMAGE
from nightseg_ros.core.model import INT8
from nightseg_ros.core.model import Model

_WARM_UP_RUNS = 2  # the first runs load kernels and allocate, which a graph cannot hold


class TensorRtBackend:
    """Runs the model in TensorRT, from a cached engine or one that is built first.

    Args:
        model: FP32; its FP16 and INT8 files are taken from beside it.
        options: precision, engine cache, device, DLA.
        report: called with what is being done; while an engine is built from another thread.

    Attributes:
        input: pinned uint8 [1, H, W, 3]; ``infer(backend.input)`` saves a copy of the frame.

    Raises:
        BackendError: no GPU, no memory, an unsafe cache, or TensorRT refuses the model.
    """

    name = 'tensorrt'
    precisions: tuple[str, ...] = (FP16, FP32, INT8)

    def __init__(self, model: Model, options: BackendOptions, report: Report) -> None:
        self._device = Device.find(options.device)
        self._device.make_current()
        self._recipe = plan(model, options, self._device)
        self.model = self._recipe.model
        self.precision = options.precision
        cache = EngineCache(options.engine_cache_dir)
        self._path = cache.path(self._recipe.name)
        self._source = get_engine(self._recipe, cache, report)
        self._description = _describe(self._source)
        self._context: Any = None
        self._graph: Graph | None = None
        with ExitStack() as resources:
            resources.callback(self._forget)
            self._allocate(resources)
            report('warming up TensorRT')
            self._graph_note = self._warm_up(resources)
            self._resources = resources.pop_all()

    def infer(self, image: NDArray[np.uint8]) -> Inference:
        """Run the model on RGB uint8 [1, H, W, 3]; see :class:`Backend`.

        The result is a view of pinned memory, which the next inference overwrites.
        """
        if self._context is None:
            raise BackendError('the TensorRT backend was closed')
        if image.shape != self.input.shape:
            raise BackendError(f'the image is {image.shape}, the model takes {self.input.shape}')
        self._device.make_current()  # a microsecond; this may be another thread than the last
        if image is not self.input:
            np.copyto(self.input, image)
        if self._graph is not None:
            self._graph.launch()
        else:
            self._enqueue()
        self._stream.wait()
        return self._result

    def describe(self) -> dict[str, str]:
        """Return facts for the diagnostics."""
        device, recipe = self._device, self._recipe
        return {
            'engine': str(self._path),
            'key': recipe.key,
            'tensorrt': recipe.tensorrt,
            'cuda': device.runtime,
            'gpu': f'{device.name} (compute capability {device.compute_capability})',
            'typing': recipe.how,
            'dla_core': str(recipe.dla_core) if recipe.dla_core >= 0 else 'none',
            'cuda_graph': self._graph_note,
            'copies': 'none, CPU and GPU share memory' if device.integrated else 'in and out',
            **self._description,
        }

    def close(self) -> None:
        """Free what the runtime holds, in the reverse order; a second call does nothing."""
        with suppress(BackendError):  # a broken context: what follows fails silently too
            self._device.make_current()
        self._resources.close()

    def _allocate(self, resources: ExitStack) -> None:
        """Make stream, memory and execution context, for the whole life of the backend."""
        self._stream = Stream()
        resources.callback(self._stream.close)
        memory: dict[str, TensorMemory] = {}
        for name, shape in self._recipe.shapes.items():
            memory[name] = TensorMemory(shape, shared=self._device.integrated)
            resources.callback(memory[name].close)
        self._memory_in = memory.pop(IMAGE)
        self._memory_out = list(memory.values())
        self.input = self._memory_in.host
        outputs = [m.host[0] for m in self._memory_out]
        self._result = Inference(*outputs, *[None] * (3 - len(outputs)))

        LOGGER.take_errors()
        context = self._source.engine.create_execution_context()
        if context is None:
            raise BackendError(
                f'TensorRT cannot run the engine, mostly for want of GPU memory: '
                f'{LOGGER.take_errors()}'
            )
        resources.callback(self._drop_context)
        for name, tensor in {IMAGE: self._memory_in, **memory}.items():
            context.set_tensor_address(name, tensor.address)
        self._context = context

    def _warm_up(self, resources: ExitStack) -> str:
        """Run the model, then capture a run as a graph; returns whether that worked."""
        for _ in range(_WARM_UP_RUNS):
            self._enqueue()
            self._stream.wait()
        try:
            graph = self._stream.capture(self._enqueue)
        except BackendError as error:
            self._enqueue()  # it must still run without
            self._stream.wait()
            return f'no: {error}'
        resources.callback(graph.close)
        self._graph = graph
        return 'yes'

    def _enqueue(self) -> None:
        """Queue copies and inference."""
        self._memory_in.upload(self._stream)
        if not self._context.execute_async_v3(self._stream.handle):
            raise BackendError(f'TensorRT failed: {LOGGER.take_errors()}')
        for tensor in self._memory_out:
            tensor.download(self._stream)

    def _drop_context(self) -> None:
        self._context = None

    def _forget(self) -> None:
        """Let go of the engine and of pinned memory, which is freed with its last view."""
        for name in ('_source', '_memory_in', '_memory_out', '_result', 'input'):
            vars(self).pop(name, None)


def _describe(source: Engine) -> dict[str, str]:
    """Return facts of an engine that stay as they are."""
    # TensorRT 10.1 brought the second, 11 dropped the first.
    for attribute in ('device_memory_size_v2', 'device_memory_size'):
        memory = getattr(source.engine, attribute, None)
        if memory is not None:
            break
    facts = source.facts
    built = f'built at {facts.get("created")} in {facts.get("build_seconds")} s'
    return {
        'device_memory_bytes': str(memory),
        'built': f'from cache, {built}' if source.from_cache else built,
    }
