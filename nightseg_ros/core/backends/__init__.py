"""Inference backends, and the choice among those that are installed."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable

import numpy as np

from nightseg_ros.core.backends.base import Backend
from nightseg_ros.core.backends.base import BackendError
from nightseg_ros.core.backends.base import Inference
from nightseg_ros.core.model import Model

__all__ = ['AUTO', 'BACKENDS', 'Backend', 'BackendError', 'Inference', 'create_backend']

AUTO = 'auto'

# Name -> module, class and pip package; imported only when asked for.
BACKENDS: dict[str, tuple[str, str, str]] = {
    'openvino': ('nightseg_ros.core.backends.openvino', 'OpenVinoBackend', 'openvino'),
    'onnxruntime': (
        'nightseg_ros.core.backends.onnx_runtime',
        'OnnxRuntimeBackend',
        'onnxruntime',
    ),
}

_TRIALS = 5


def create_backend(model: Model, name: str = AUTO, threads: int = 0) -> tuple[Backend, str]:
    """Return a backend that has run the model once, and why it was chosen.

    Args:
        model: what to run.
        name: a key of :data:`BACKENDS`, or 'auto': time each installed one and take the fastest.
        threads: of the runtime; 0 leaves the choice to it.

    Raises:
        BackendError: unknown name, package not installed, or the runtime refuses the model.
    """
    if name == AUTO:
        return _fastest(model, threads)
    backend = _load(name)(model, threads)
    _time_inference(backend, trials=1)
    return backend, 'asked for'


def _load(name: str) -> Callable[[Model, int], Backend]:
    if name not in BACKENDS:
        raise BackendError(f"no backend '{name}': choose one of {AUTO}, {', '.join(BACKENDS)}")
    module, factory, package = BACKENDS[name]
    try:
        return getattr(importlib.import_module(module), factory)
    except ImportError as error:
        raise BackendError(
            f"backend '{name}' cannot be imported ({error}): pip install {package}"
        ) from error


def _fastest(model: Model, threads: int) -> tuple[Backend, str]:
    timed: list[tuple[float, Backend]] = []
    failures: list[str] = []
    for name in BACKENDS:
        try:
            backend = _load(name)(model, threads)
            timed.append((_time_inference(backend, _TRIALS), backend))
        except BackendError as error:
            failures.append(str(error))
    if not timed:
        raise BackendError('no backend can run the model: ' + '; '.join(failures))
    timed.sort(key=lambda pair: pair[0])
    measured = ', '.join(f'{backend.name} {ms:.1f} ms' for ms, backend in timed)
    reason = (
        f'fastest here: {measured}' if len(timed) > 1 else f'the only one that runs: {measured}'
    )
    return timed[0][1], reason


def _time_inference(backend: Backend, trials: int) -> float:
    """Return the median inference time in ms, after one to warm up."""
    image = np.full((1, backend.model.height, backend.model.width, 3), 64, np.uint8)
    backend.infer(image)
    times = []
    for _ in range(trials):
        start = time.perf_counter()
        backend.infer(image)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3
