"""From a recipe to a serialized engine, with progress."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import tensorrt as trt

from nightseg_ros.core.backends.base import BackendError
from nightseg_ros.core.backends.base import Report
from nightseg_ros.core.backends.tensorrt.engine_cache import EngineCache
from nightseg_ros.core.backends.tensorrt.logger import LOGGER
from nightseg_ros.core.backends.tensorrt.recipe import Recipe

REPORT_EVERY = 1.0
"""Seconds between reports of a build."""


@dataclass(frozen=True)
class Built:
    """A serialized engine and how long it took, in seconds."""

    engine: bytes
    seconds: float


def build(recipe: Recipe, cache: EngineCache, report: Report) -> Built:
    """Build an engine: seconds on a desktop GPU, up to half an hour on a small Jetson.

    Args:
        recipe: what to build.
        cache: where timings of kernels are kept, which make the next build faster.
        report: called about once a second, from another thread.

    Raises:
        BackendError: TensorRT refuses the model or fails; the message has its reasons.
    """
    start = time.monotonic()
    LOGGER.take_errors()
    with Progress(report, REPORT_EVERY) as progress:
        builder = _builder()
        network = builder.create_network(_network_flags(recipe))
        # Kept until the engine is built: the network refers to its weights.
        parser = _parse(network, recipe)
        config = _configure(builder, recipe)
        timings = config.create_timing_cache(cache.timings(recipe.timings_name))
        if timings is None:  # a foreign or corrupt file
            timings = config.create_timing_cache(b'')
        config.set_timing_cache(timings, ignore_mismatch=False)
        if hasattr(trt, 'IProgressMonitor'):  # since TensorRT 9
            config.progress_monitor = _monitor(progress)
        serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise BackendError(
            f'TensorRT {recipe.tensorrt} cannot build {recipe.model.path.name} in '
            f'{recipe.precision} ({recipe.how}): {LOGGER.take_errors()}'
        )
    del parser
    cache.update_timings(recipe.timings_name, lambda s: _combined(config, timings, s))
    return Built(bytes(serialized), time.monotonic() - start)


class Progress:
    """Reports how far a build is, also while TensorRT says nothing: no build is silent.

    Args:
        report: called from a thread of its own.
        interval: seconds between calls.
    """

    def __init__(self, report: Report, interval: float) -> None:
        self.phases: dict[str, int] = {}
        self._report = report
        self._interval = interval
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name='build progress', daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        start = time.monotonic()
        while True:
            # A copy: TensorRT changes them from its threads.
            phases = ' > '.join(f'{phase} {share} %' for phase, share in dict(self.phases).items())
            elapsed = f'{time.monotonic() - start:.0f} s'
            self._report(f'building the engine: {phases + ", " if phases else ""}{elapsed}')
            if self._done.wait(self._interval):
                return


def _monitor(progress: Progress) -> Any:
    """Return what TensorRT tells its phases, outermost first; called from several threads."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = max(num_steps, 1)
            progress.phases[phase_name] = 0

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress.phases[phase_name] = min(100 * (step + 1) // self._steps[phase_name], 100)
            return True  # False would cancel the build

        def phase_finish(self, phase_name: str) -> None:
            progress.phases.pop(phase_name, None)

    return Monitor()


def _builder() -> Any:
    try:
        return trt.Builder(LOGGER)
    except TypeError as error:  # pybind11's for a null pointer
        raise BackendError(f'TensorRT cannot start: {LOGGER.take_errors()}') from error


def _network_flags(recipe: Recipe) -> int:
    """Return the bits for ``create_network``."""
    flags = 0
    # 8 needs it; in 10 it is deprecated and without effect, and 11 has no such name.
    if hasattr(trt.NetworkDefinitionCreationFlag, 'EXPLICIT_BATCH'):
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    # Since 9; in 11 deprecated, because every network is.
    if recipe.strongly_typed and hasattr(trt.NetworkDefinitionCreationFlag, 'STRONGLY_TYPED'):
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    return flags


def _parse(network: Any, recipe: Recipe) -> Any:
    parser = trt.OnnxParser(network, LOGGER)
    if not parser.parse(recipe.onnx):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        reasons = [f'node {e.node()}: {e.desc()}' for e in errors] or [LOGGER.take_errors()]
        raise BackendError(
            f'TensorRT {recipe.tensorrt} cannot parse {recipe.model.path}: {"; ".join(reasons)}'
        )
    return parser


def _configure(builder: Any, recipe: Recipe) -> Any:
    config = builder.create_builder_config()
    for name in recipe.builder_flags:
        config.set_flag(getattr(trt.BuilderFlag, name))
    if recipe.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe.workspace)
    # Costs nothing at run time; the inspector then knows the precision of each layer.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if recipe.dla_core >= 0:
        cores = builder.num_DLA_cores
        if recipe.dla_core >= cores:
            raise BackendError(
                f'{recipe.device.name} has no DLA core {recipe.dla_core} that TensorRT '
                f'{recipe.tensorrt} can use (it sees {cores}): set dla_core to -1 for the GPU'
            )
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = recipe.dla_core
    return config


def _combined(config: Any, timings: Any, stored: bytes) -> bytes:
    """Return the timings of a build together with those that others stored meanwhile."""
    other = config.create_timing_cache(stored)
    if other is not None:
        timings.combine(other, ignore_mismatch=False)
    return bytes(timings.serialize())
