"""What a quantised model does to masks and time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from nightseg_ros.core.backends import Backend
from nightseg_ros.core.model import CONFIDENCE
from nightseg_ros.core.model import IMAGE
from nightseg_ros.core.model import LABELS

Frame = NDArray[np.uint8]


class Masks(NamedTuple):
    """Labels and confidence of one frame, uint8 [H, W] each."""

    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]


class Agreement(NamedTuple):
    """How near masks are to those of the FP32 model.

    Attributes:
        labels: share of pixels with the same label, 0..1.
        confidence: mean absolute difference, of 255.
    """

    labels: float
    confidence: float


def masks_of(proto: onnx.ModelProto, frames: Sequence[Frame]) -> list[Masks]:
    """Run a model in ONNX Runtime on RGB uint8 [H, W, 3] frames of its input size."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=['CPUExecutionProvider']
    )
    outputs = [session.run([LABELS, CONFIDENCE], {IMAGE: frame[None]}) for frame in frames]
    return [Masks(labels[0], confidence[0]) for labels, confidence in outputs]


def backend_masks(backend: Backend, frames: Sequence[Frame]) -> list[Masks]:
    """Run a backend on RGB uint8 [H, W, 3] frames of its input size."""
    results = []
    for frame in frames:
        inference = backend.infer(frame[None])
        results.append(Masks(inference.labels.copy(), inference.confidence.copy()))
    return results


def agreement(found: Sequence[Masks], expected: Sequence[Masks]) -> Agreement:
    """Compare masks frame by frame; the mean over the frames, rounded for people."""
    pairs = list(zip(found, expected, strict=True))
    labels = [np.mean(a.labels == b.labels) for a, b in pairs]
    confidence = [
        np.mean(np.abs(a.confidence.astype(int) - b.confidence.astype(int))) for a, b in pairs
    ]
    return Agreement(round(float(np.mean(labels)), 5), round(float(np.mean(confidence)), 3))


def time_interleaved(
    backends: Mapping[str, Backend], frame: Frame, rounds: int
) -> dict[str, float]:
    """Return the median inference time in ms of each backend, all of them in turn each round."""
    times: dict[str, list[float]] = {name: [] for name in backends}
    image = np.ascontiguousarray(frame[None])
    for backend in backends.values():
        backend.infer(image)
    for _ in range(rounds):
        for name, backend in backends.items():
            start = time.perf_counter()
            backend.infer(image)
            times[name].append(time.perf_counter() - start)
    return {name: round(float(np.median(found)) * 1e3, 2) for name, found in times.items()}
