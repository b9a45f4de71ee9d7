"""What an inference backend is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.model import FP32
from nightseg_ros.core.model import Model
from nightseg_ros.core.model import ModelError
from nightseg_ros.core.model import variant

AUTO = 'auto'

Report = Callable[[str], None]
"""Takes what a backend is doing, for people: 'building the engine, 40 %'."""


class BackendError(RuntimeError):
    """A backend is not installed, refuses the model or fails; the message says what to do."""


@dataclass(frozen=True)
class BackendOptions:
    """How a backend runs a model; each backend takes what concerns it.

    Attributes:
        threads: of a CPU backend; 0 leaves the choice to it.
        precision: one of ``model.PRECISIONS``, or 'auto': the backend's fastest that passes the
            self-check.
        engine_cache_dir: where TensorRT engines are kept; None takes the user's cache folder.
        device: CUDA device.
        dla_core: deep learning accelerator of a Jetson; -1 uses the GPU.
        gpu_fallback: whether layers that a DLA cannot run may run on the GPU.
    """

    threads: int = 0
    precision: str = AUTO
    engine_cache_dir: Path | None = None
    device: int = 0
    dla_core: int = -1
    gpu_fallback: bool = True


class Inference(NamedTuple):
    """Outputs of one inference, uint8 [H, W] each, valid until the next one.

    Attributes:
        labels: trainIds.
        confidence: 0..255.
        exposure: V * 255, or None where the model has no exposure stream.
    """

    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    exposure: NDArray[np.uint8] | None


class Backend(Protocol):
    """Runs a released model.

    Made from a model, options whose precision is not 'auto', and where to report progress.
    Not thread-safe: one thread calls ``infer``; it need not be the one that made the backend.

    Attributes:
        name: a key of ``backends.BACKENDS``.
        precisions: what it can run in, the one to prefer first.
        model: what it runs, FP32 or one of its variants.
        precision: what it runs in.
        input: RGB uint8 [1, H, W, 3], memory from which ``infer`` reads fastest.
    """

    name: str
    precisions: tuple[str, ...]
    model: Model
    precision: str
    input: NDArray[np.uint8]

    def infer(self, image: NDArray[np.uint8]) -> Inference:
        """Run the model on RGB uint8 [1, H, W, 3].

        Raises:
            BackendError: when the runtime fails.
        """
        ...

    def describe(self) -> dict[str, str]:
        """Return facts for the diagnostics: threads, engine file, device."""
        ...

    def close(self) -> None:
        """Free what the runtime holds; ``infer`` must not be called any more."""
        ...


class CpuBackend:
    """What the CPU backends share."""

    name: str
    precisions: tuple[str, ...] = (FP32,)

    def __init__(self, model: Model, options: BackendOptions) -> None:
        self.model = model_in(model, options.precision)
        self.precision = options.precision
        self.input = np.empty((1, self.model.height, self.model.width, 3), np.uint8)
        self._threads = options.threads

    def describe(self) -> dict[str, str]:
        """Return facts for the diagnostics."""
        return {'threads': str(self._threads or 'chosen by the backend')}


def model_in(model: Model, precision: str) -> Model:
    """Return a model's file of one precision.

    Raises:
        BackendError: there is none, or it was made from other weights.
    """
    try:
        found = variant(model, precision)
    except ModelError as error:
        raise BackendError(str(error)) from error
    if found is None:
        raise BackendError(
            f'there is no {precision} file of {model.name}: make it with python -m training '
            f'quantize, and put {model.name}_{precision}.onnx beside {model.path}'
        )
    return found
