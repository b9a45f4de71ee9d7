"""OpenVINO on the CPU."""

from __future__ import annotations

import numpy as np
import openvino
from numpy.typing import NDArray

from nightseg_ros.core.backends.base import BackendError
from nightseg_ros.core.backends.base import BackendOptions
from nightseg_ros.core.backends.base import CpuBackend
from nightseg_ros.core.backends.base import Inference
from nightseg_ros.core.backends.base import Report
from nightseg_ros.core.model import BF16
from nightseg_ros.core.model import CONFIDENCE
from nightseg_ros.core.model import EXPOSURE
from nightseg_ros.core.model import FP32
from nightseg_ros.core.model import INT8
from nightseg_ros.core.model import LABELS
from nightseg_ros.core.model import Model


class OpenVinoBackend(CpuBackend):
    """Runs the model in OpenVINO's CPU plugin, latency first."""

    name = 'openvino'
    precisions = (FP32, BF16, INT8)

    def __init__(self, model: Model, options: BackendOptions, report: Report) -> None:
        super().__init__(model, options)
        report('compiling the graph for OpenVINO')
        config: dict[str, str | int | bool] = {
            'PERFORMANCE_HINT': 'LATENCY',
            # Left to itself it takes bfloat16 where the processor has it, also between the layers
            # of an INT8 file: faster, and of the released models one label in fifty another.
            'INFERENCE_PRECISION_HINT': 'bf16' if self.precision == BF16 else 'f32',
        }
        if options.threads:
            config['INFERENCE_NUM_THREADS'] = options.threads
            # Pinned, every process that asks for one thread would get the same core.
            config['ENABLE_CPU_PINNING'] = False
        try:
            core = openvino.Core()
            if self.precision == BF16 and not computes_bfloat16(core):
                raise BackendError(
                    'this processor does not compute in bfloat16 (AVX-512 BF16 or AMX): use fp32'
                )
            graph = core.read_model(self.model.content, b'')
            self._request = core.compile_model(graph, 'CPU', config).create_infer_request()
            # Bound once: handing the image over with each call costs 0.2 ms.
            self._request.set_input_tensor(openvino.Tensor(self.input, shared_memory=True))
        except RuntimeError as error:
            raise BackendError(f'OpenVINO refuses {self.model.path}: {error}') from error
        self._outputs = [LABELS, CONFIDENCE] + ([EXPOSURE] if self.model.has_exposure else [])

    def infer(self, image: NDArray[np.uint8]) -> Inference:
        """Run the model on RGB uint8 [1, H, W, 3]; see :class:`Backend`."""
        if image is not self.input:
            np.copyto(self.input, image)
        try:
            self._request.infer(share_outputs=True)
        except RuntimeError as error:
            raise BackendError(f'OpenVINO failed: {error}') from error
        outputs = [self._request.get_tensor(name).data[0] for name in self._outputs]
        return Inference(*outputs, *[None] * (3 - len(outputs)))

    def close(self) -> None:
        """Free the compiled model."""
        del self._request


def computes_bfloat16(core: openvino.Core | None = None) -> bool:
    """Return whether this processor computes in bfloat16, not only pretends to."""
    core = core or openvino.Core()
    return 'BF16' in core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
