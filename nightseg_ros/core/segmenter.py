"""A frame in, masks out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from nightseg_ros.core import exposure
from nightseg_ros.core.backends import AUTO
from nightseg_ros.core.backends import Backend
from nightseg_ros.core.backends import create_backend
from nightseg_ros.core.exposure import ExposureThresholds
from nightseg_ros.core.image_codec import resize_to_rgb
from nightseg_ros.core.model import load_model

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Timings:
    """Where the time of one frame went, in milliseconds."""

    preprocess: float
    infer: float
    postprocess: float


@dataclass(frozen=True)
class Segmentation:
    """Masks of one frame, uint8 [H, W] each, of the frame's size.

    Attributes:
        labels: trainIds.
        confidence: 0..255.
        exposure: 0 normal, 1 under-exposed, 2 over-exposed.
        timings: where the time went.
    """

    labels: Mask
    confidence: Mask
    exposure: Mask
    timings: Timings


@dataclass(frozen=True)
class MaskMemory:
    """Where masks are written, uint8 [H, W] each of the frame's size."""

    labels: Mask
    confidence: Mask
    exposure: Mask

    @classmethod
    def allocate(cls, height: int, width: int) -> MaskMemory:
        """Return new memory for frames of one size."""
        return cls(*(np.empty((height, width), np.uint8) for _ in range(3)))


class Segmenter:
    """Turns frames into masks with one backend. Not thread-safe: one worker owns it.

    Args:
        backend: runs the model.
        thresholds: where under- and over-exposure begin.
        reason: why this backend was chosen, for people.
    """

    def __init__(
        self,
        backend: Backend,
        thresholds: ExposureThresholds | None = None,
        reason: str = '',
    ) -> None:
        self.backend = backend
        self.thresholds = thresholds or ExposureThresholds()
        self.reason = reason
        model = backend.model
        self._input = np.empty((1, model.height, model.width, 3), np.uint8)

    @classmethod
    def load(
        cls,
        model_path: str | Path | None = None,
        backend: str = AUTO,
        threads: int = 0,
        thresholds: ExposureThresholds | None = None,
    ) -> Segmenter:
        """Return a segmenter for a model file (None or '' = the released one).

        Raises:
            ModelError: the model is missing or corrupt.
            BackendError: no backend can run it.
        """
        chosen, reason = create_backend(load_model(model_path), backend, threads)
        return cls(chosen, thresholds, reason)

    def __call__(
        self, frame: NDArray[np.uint8], encoding: str = 'rgb8', out: MaskMemory | None = None
    ) -> Segmentation:
        """Segment one frame.

        Args:
            frame: uint8 [H, W, C] or [H, W], possibly a strided view.
            encoding: how its channels are to be read (a key of ``image_codec.CHANNELS``).
            out: memory of the masks; None allocates.

        Raises:
            BackendError: when the runtime fails.
        """
        start = time.perf_counter()
        resize_to_rgb(frame, encoding, self._input[0])
        prepared = time.perf_counter()
        result = self.backend.infer(self._input)
        inferred = time.perf_counter()
        height, width = frame.shape[:2]
        out = out or MaskMemory.allocate(height, width)
        values = result.exposure
        if values is None:
            values = exposure.value_channel(self._input[0])
        size = (width, height)
        cv2.resize(result.labels, size, dst=out.labels, interpolation=cv2.INTER_NEAREST_EXACT)
        cv2.resize(result.confidence, size, dst=out.confidence)
        bad = exposure.exposure_mask(values, self.thresholds)
        cv2.resize(bad, size, dst=out.exposure, interpolation=cv2.INTER_NEAREST_EXACT)
        done = time.perf_counter()
        timings = Timings(
            (prepared - start) * 1e3, (inferred - prepared) * 1e3, (done - inferred) * 1e3
        )
        return Segmentation(out.labels, out.confidence, out.exposure, timings)
