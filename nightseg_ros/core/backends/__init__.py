"""Inference backends, and the choice among those that are installed."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass
from dataclasses import replace

import numpy as np

from nightseg_ros.core import self_check
from nightseg_ros.core.backends.base import AUTO
from nightseg_ros.core.backends.base import Backend
from nightseg_ros.core.backends.base import BackendError
from nightseg_ros.core.backends.base import BackendOptions
from nightseg_ros.core.backends.base import Inference
from nightseg_ros.core.backends.base import Report
from nightseg_ros.core.model import BF16
from nightseg_ros.core.model import PRECISIONS
from nightseg_ros.core.model import Model
from nightseg_ros.core.model import ModelError

__all__ = [
    'AUTO',
    'BACKENDS',
    'Backend',
    'BackendError',
    'BackendOptions',
    'Inference',
    'Report',
    'Started',
    'create_backend',
    'load_backend_class',
]

# Name -> module, class and pip package; imported only when asked for.
BACKENDS: dict[str, tuple[str, str, str]] = {
    'tensorrt': (
        'nightseg_ros.core.backends.tensorrt',
        'TensorRtBackend',
        'tensorrt cuda-bindings',
    ),
    'openvino': ('nightseg_ros.core.backends.openvino', 'OpenVinoBackend', 'openvino'),
    'onnxruntime': (
        'nightseg_ros.core.backends.onnx_runtime',
        'OnnxRuntimeBackend',
        'onnxruntime',
    ),
}

GPU_BACKENDS = ('tensorrt',)
"""Taken by 'auto' wherever they run; only the others are compared by time."""

ONLY_WHEN_ASKED = (BF16,)
"""Precisions that 'auto' does not take: faster, but of fifty labels one is another."""

_TRIALS = 5
_NO_REFERENCE = 'not possible: there is no reference beside the model'


@dataclass(frozen=True)
class Started:
    """A backend that has run the model.

    Attributes:
        backend: ready to drive.
        reason: why it was chosen, for people.
        self_check: result of the self-check, for people.
    """

    backend: Backend
    reason: str
    self_check: str


def create_backend(
    model: Model,
    name: str = AUTO,
    options: BackendOptions | None = None,
    report: Report | None = None,
) -> Started:
    """Return a backend that has run the model and passed its self-check.

    Args:
        model: what to run.
        name: a key of :data:`BACKENDS`, or 'auto': TensorRT where it runs, else the fastest of
            the others, timed.
        options: how; None takes the defaults.
        report: called with what is being done.

    Raises:
        BackendError: unknown name, package not installed, the runtime refuses the model, or its
            masks are wrong.
    """
    options = options or BackendOptions()
    report = report or (lambda _: None)
    reference = _reference(model)
    if name != AUTO:
        backend, checked = _start(name, model, options, reference, report)
        return Started(backend, 'asked for', checked)

    failures: list[str] = []
    timed: list[tuple[float, Backend, str]] = []
    for candidate in BACKENDS:
        try:
            backend, checked = _start(candidate, model, options, reference, report)
        except BackendError as error:
            failures.append(str(error))
            continue
        if candidate in GPU_BACKENDS:
            return Started(backend, 'there is a GPU that it runs on', checked)
        timed.append((_time_inference(backend, _TRIALS), backend, checked))
    if not timed:
        raise BackendError('no backend can run the model: ' + '; '.join(failures))
    timed.sort(key=lambda entry: entry[0])
    for _, backend, _ in timed[1:]:
        backend.close()
    measured = ', '.join(f'{backend.name} {ms:.1f} ms' for ms, backend, _ in timed)
    reason = 'fastest here' if len(timed) > 1 else 'the only one that runs'
    return Started(timed[0][1], f'{reason}: {measured}', timed[0][2])


def load_backend_class(name: str) -> type[Backend]:
    """Return a backend's class.

    Raises:
        BackendError: there is no such backend, or it cannot be imported.
    """
    if name not in BACKENDS:
        raise BackendError(f"no backend '{name}': choose one of {AUTO}, {', '.join(BACKENDS)}")
    module, factory, package = BACKENDS[name]
    try:
        return getattr(importlib.import_module(module), factory)
    except ImportError as error:
        raise BackendError(
            f"backend '{name}' cannot be imported ({error}): pip install {package}"
        ) from error


def _reference(model: Model) -> self_check.Reference | None:
    try:
        return self_check.load_reference(model)
    except ModelError as error:
        raise BackendError(str(error)) from error


def _start(
    name: str,
    model: Model,
    options: BackendOptions,
    reference: self_check.Reference | None,
    report: Report,
) -> tuple[Backend, str]:
    """Return a backend in the first precision that works, and the result of its self-check."""
    factory = load_backend_class(name)
    asked = options.precision
    if asked not in (AUTO, *PRECISIONS):
        raise BackendError(f"no precision '{asked}': choose one of {AUTO}, {', '.join(PRECISIONS)}")
    failures: list[str] = []
    automatic = [p for p in factory.precisions if p not in ONLY_WHEN_ASKED]
    for precision in automatic if asked == AUTO else [asked]:
        if precision not in factory.precisions:
            raise BackendError(
                f"backend '{name}' cannot run in {precision}, only in "
                + ', '.join(factory.precisions)
            )
        backend = None
        try:
            backend = factory(model, replace(options, precision=precision), report)  # type: ignore[call-arg]
            report(f'self-check of {name} in {precision}')
            _time_inference(backend, trials=1)
            checked = self_check.check(backend, reference) if reference else _NO_REFERENCE
            return backend, '; '.join([checked, *failures])
        except BackendError as error:
            failures.append(str(error))
            if backend is not None:
                backend.close()
        except BaseException:
            if backend is not None:
                backend.close()
            raise
    raise BackendError('; '.join(failures))


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
