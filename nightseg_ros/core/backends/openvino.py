"""OpenVINO on the CPU."""

from __future__ import annotations

import numpy as np
import openvino
from numpy.typing import NDArray

from nightseg_ros.core.backends.base import BackendError
from nightseg_ros.core.backends.base import Inference
from nightseg_ros.core.model import CONFIDENCE
from nightseg_ros.core.model import EXPOSURE
from nightseg_ros.core.model import LABELS
from nightseg_ros.core.model import Model


class OpenVinoBackend:
    """Runs the model in OpenVINO's CPU plugin, latency first."""

    name = 'openvino'

    def __init__(self, model: Model, threads: int = 0) -> None:
        self.model = model
        config: dict[str, str | int] = {'PERFORMANCE_HINT': 'LATENCY'}
        if threads:
            config['INFERENCE_NUM_THREADS'] = threads
        try:
            core = openvino.Core()
            graph = core.read_model(model.content, b'')
            self._request = core.compile_model(graph, 'CPU', config).create_infer_request()
        except RuntimeError as error:
            raise BackendError(f'OpenVINO refuses {model.path}: {error}') from error
        self._outputs = [LABELS, CONFIDENCE] + ([EXPOSURE] if model.has_exposure else [])

    def infer(self, image: NDArray[np.uint8]) -> Inference:
        """Run the model on RGB uint8 [1, H, W, 3]; see :class:`Backend`."""
        try:
            self._request.infer([image], share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise BackendError(f'OpenVINO failed: {error}') from error
        outputs = [self._request.get_tensor(name).data[0] for name in self._outputs]
        return Inference(*outputs, *[None] * (3 - len(outputs)))
