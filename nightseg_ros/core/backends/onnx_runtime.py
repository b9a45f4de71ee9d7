"""ONNX Runtime on the CPU."""

from __future__ import annotations

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from nightseg_ros.core.backends.base import BackendError
from nightseg_ros.core.backends.base import Inference
from nightseg_ros.core.model import CONFIDENCE
from nightseg_ros.core.model import EXPOSURE
from nightseg_ros.core.model import IMAGE
from nightseg_ros.core.model import LABELS
from nightseg_ros.core.model import Model


class OnnxRuntimeBackend:
    """Runs the model in ONNX Runtime's CPU provider."""

    name = 'onnxruntime'

    def __init__(self, model: Model, threads: int = 0) -> None:
        self.model = model
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                model.content, options, providers=['CPUExecutionProvider']
            )
        except Exception as error:  # its exceptions derive from Exception directly
            raise BackendError(f'ONNX Runtime refuses {model.path}: {error}') from error
        self._outputs = [LABELS, CONFIDENCE] + ([EXPOSURE] if model.has_exposure else [])

    def infer(self, image: NDArray[np.uint8]) -> Inference:
        """Run the model on RGB uint8 [1, H, W, 3]; see :class:`Backend`."""
        try:
            outputs = self._session.run(self._outputs, {IMAGE: image})
        except Exception as error:
            raise BackendError(f'ONNX Runtime failed: {error}') from error
        return Inference(*(o[0] for o in outputs), *[None] * (3 - len(outputs)))
