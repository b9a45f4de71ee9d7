"""An engine for a recipe: from the cache, else built."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

import onnx
import tensorrt as trt

from nightseg_ros.core.backends.base import BackendError
from nightseg_ros.core.backends.base import Report
from nightseg_ros.core.backends.tensorrt.builder import build
from nightseg_ros.core.backends.tensorrt.engine_cache import EngineCache
from nightseg_ros.core.backends.tensorrt.engine_cache import Facts
from nightseg_ros.core.backends.tensorrt.engine_cache import UnusableEngineError
from nightseg_ros.core.backends.tensorrt.logger import LOGGER
from nightseg_ros.core.backends.tensorrt.recipe import Recipe

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Engine:
    """A deserialized engine.

    Attributes:
        engine: ``tensorrt.ICudaEngine``.
        facts: what the cache's JSON says of it.
        from_cache: whether it was there already.
    """

    engine: Any
    facts: Facts
    from_cache: bool


def get_engine(recipe: Recipe, cache: EngineCache, report: Report) -> Engine:
    """Return the engine of a recipe, built at most once however many processes ask for it.

    Raises:
        BackendError: it cannot be built, or the cache is not safe.
    """
    with cache.lock(recipe.name, report):
        try:
            stored = cache.load(recipe.name, recipe.key)
            if stored is not None:
                report(f'loading {cache.path(recipe.name)}')
                return Engine(_deserialize_for(recipe, stored[0]), stored[1], True)
        except UnusableEngineError as error:
            _log.warning('%s is built again: %s', cache.path(recipe.name), error)
        built = build(recipe, cache, report)
        try:
            engine = _deserialize_for(recipe, built.engine)
        except UnusableEngineError as error:
            raise BackendError(f'TensorRT refuses the engine that it built: {error}') from error
        facts = {
            'model': recipe.model.path.name,
            'key': recipe.key,
            'created': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
            'build_seconds': round(built.seconds, 1),
            'onnx_package': onnx.__version__,
            **recipe.ingredients,
        }
        return Engine(engine, cache.store(recipe.name, built.engine, facts), False)


def deserialize(content: bytes, dla_core: int) -> Any:
    """Return a serialized engine as ``tensorrt.ICudaEngine``.

    Raises:
        UnusableEngineError: TensorRT refuses it: truncated, of another version or GPU.
    """
    LOGGER.take_errors()
    try:
        runtime = trt.Runtime(LOGGER)
    except TypeError as error:  # pybind11's for a null pointer
        raise BackendError(f'TensorRT cannot start: {LOGGER.take_errors()}') from error
    if dla_core >= 0:
        runtime.DLA_core = dla_core
    engine = runtime.deserialize_cuda_engine(content)  # which keeps the runtime alive
    if engine is None:
        raise UnusableEngineError(LOGGER.take_errors())
    return engine


def _deserialize_for(recipe: Recipe, content: bytes) -> Any:
    """Return an engine whose inputs and outputs are the recipe's, else raise as above."""
    engine = deserialize(content, recipe.dla_core)
    found = {
        name: (tuple(engine.get_tensor_shape(name)), engine.get_tensor_dtype(name))
        for name in map(engine.get_tensor_name, range(engine.num_io_tensors))
    }
    expected = {name: (shape, trt.DataType.UINT8) for name, shape in recipe.shapes.items()}
    if found != expected:
        raise UnusableEngineError(f'its inputs and outputs are {found}')
    return engine
