"""TensorRT 8.5 to 11 on an NVIDIA GPU or a Jetson's DLA.

``onnx_adaptation`` and ``engine_cache`` need neither TensorRT nor CUDA, so the package itself
imports without them; only :class:`TensorRtBackend` raises ImportError where they are missing.
"""

from __future__ import annotations

from typing import Any

__all__ = ['TensorRtBackend']


def __getattr__(name: str) -> Any:
    if name != 'TensorRtBackend':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    try:
        from nightseg_ros.core.backends.tensorrt.backend import TensorRtBackend
    except OSError as error:  # tensorrt loads its libraries with ctypes, which raises this
        raise ImportError(str(error)) from error
    return TensorRtBackend
