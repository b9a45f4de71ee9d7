"""ONNX Runtime on the CPU."""

from __future__ import annotations

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from nightseg_ros.core.backends.base import BackendError
from nightseg_ros.core.backends.base import BackendOptions
from nightseg_ros.core.backends.base import CpuBackend
from nightseg_ros.core.backends.base import Inference
from nightseg_ros.core.backends.base import Report
from nightseg_ros.core.model import CONFIDENCE
from nightseg_ros.core.model import EXPOSURE
from nightseg_ros.core.model import FP32
from nightseg_ros.core.model import IMAGE
from nightseg_ros.core.model import INT8
from nightseg_ros.core.model import LABELS
from nightseg_ros.core.model import Model


class OnnxRuntimeBackend(CpuBackend):
    """Runs the model in ONNX Runtime's CPU provider."""

    name = 'onnxruntime'
    precisions = (FP32, INT8)

    def __init__(self, model: Model, options: BackendOptions, report: Report) -> None:
        super().__init__(model, options)
        report('optimising the graph for ONNX Runtime')
        session_options = onnxruntime.SessionOptions()
        session_options.intra_op_num_threads = options.threads
        session_options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                self.model.content, session_options, providers=['CPUExecutionProvider']
            )
        except Exception as error:  # its exceptions derive from Exception directly
            raise BackendError(f'ONNX Runtime refuses {self.model.path}: {error}') from error
        self._outputs = [LABELS, CONFIDENCE] + ([EXPOSURE] if self.model.has_exposure else [])

    def infer(self, image: NDArray[np.uint8]) -> Inference:
        """Run the model on RGB uint8 [1, H, W, 3]; see :class:`Backend`."""
        try:
            outputs = self._session.run(self._outputs, {IMAGE: image})
        except Exception as error:
            raise BackendError(f'ONNX Runtime failed: {error}') from error
        return Inference(*(o[0] for o in outputs), *[None] * (3 - len(outputs)))

    def close(self) -> None:
        """Free the session."""
        del self._session
