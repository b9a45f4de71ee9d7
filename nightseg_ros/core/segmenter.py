"""A frame in, masks out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core.backends import AUTO
from nightseg_ros.core.backends import BackendOptions
from nightseg_ros.core.backends import Report
from nightseg_ros.core.backends import Started
from nightseg_ros.core.backends import create_backend
from nightseg_ros.core.exposure import value_channel
from nightseg_ros.core.image_codec import CameraFrame
from nightseg_ros.core.image_codec import resize_to_rgb
from nightseg_ros.core.model import load_model

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Timings:
    """Where the time of one frame went, in milliseconds."""

    preprocess: float
    infer: float


@dataclass(frozen=True)
class Segmentation:
    """Masks of one frame, uint8 [H, W] each.

    Attributes:
        labels: trainIds.
        confidence: 0..255.
        exposure: V * 255.
        timings: where the time went.
    """

    labels: Mask
    confidence: Mask
    exposure: Mask
    timings: Timings

    def resized(self, height: int, width: int) -> Segmentation:
        """Return a copy of another size."""
        size = (height, width)
        return replace(
            self,
            labels=resize_labels(self.labels, np.empty(size, np.uint8)),
            confidence=resize_values(self.confidence, np.empty(size, np.uint8)),
            exposure=resize_values(self.exposure, np.empty(size, np.uint8)),
        )


def resize_labels(labels: Mask, out: Mask) -> Mask:
    """Scale ids to the size of ``out`` and return it: the nearest id, never one in between."""
    size = (out.shape[1], out.shape[0])
    return cv2.resize(labels, size, dst=out, interpolation=cv2.INTER_NEAREST_EXACT)


def resize_values(values: Mask, out: Mask) -> Mask:
    """Scale values to the size of ``out`` bilinearly and return it."""
    return cv2.resize(values, (out.shape[1], out.shape[0]), dst=out)


class Segmenter:
    """Turns frames into masks with one backend. Not thread-safe: one worker owns it."""

    def __init__(self, started: Started) -> None:
        self.backend = started.backend
        self.reason = started.reason
        self.self_check = started.self_check

    @classmethod
    def load(
        cls,
        model_path: str | Path | None = None,
        backend: str = AUTO,
        options: BackendOptions | None = None,
        report: Report | None = None,
    ) -> Segmenter:
        """Return a segmenter for a model file (None or '' = the released one).

        Args:
            model_path: an exported ONNX file.
            backend: a key of ``backends.BACKENDS``, or 'auto'.
            options: of the backend.
            report: called with what is being done, for people.

        Raises:
            ModelError: the model is missing or corrupt.
            BackendError: no backend can run it.
        """
        return cls(create_backend(load_model(model_path), backend, options, report))

    def __call__(self, frame: CameraFrame) -> Segmentation:
        """Segment one frame; the masks have the model's size and are valid until the next frame.

        Raises:
            BackendError: when the runtime fails.
        """
        start = time.perf_counter()
        image = resize_to_rgb(frame, self.backend.input[0])
        prepared = time.perf_counter()
        result = self.backend.infer(self.backend.input)
        inferred = time.perf_counter()
        exposure = value_channel(image) if result.exposure is None else result.exposure
        timings = Timings((prepared - start) * 1e3, (inferred - prepared) * 1e3)
        return Segmentation(result.labels, result.confidence, exposure, timings)

    def segment_rgb(self, rgb: NDArray[np.uint8]) -> Segmentation:
        """Segment uint8 [H, W, 3]; the masks have the frame's size and are the caller's."""
        return self(CameraFrame.of(rgb)).resized(*rgb.shape[:2])

    def close(self) -> None:
        """Free the backend."""
        self.backend.close()
