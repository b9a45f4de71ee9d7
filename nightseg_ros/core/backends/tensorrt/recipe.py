"""What decides which engine a build makes."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from typing import Any

import onnx
import tensorrt as trt

from nightseg_ros.core.backends.base import BackendError
from nightseg_ros.core.backends.base import BackendOptions
from nightseg_ros.core.backends.base import model_in
from nightseg_ros.core.backends.tensorrt.cuda import Device
from nightseg_ros.core.backends.tensorrt.onnx_adaptation import adapt_for_tensorrt
from nightseg_ros.core.backends.tensorrt.onnx_adaptation import with_float_weights
from nightseg_ros.core.model import CONFIDENCE
from nightseg_ros.core.model import EXPOSURE
from nightseg_ros.core.model import FP16
from nightseg_ros.core.model import FP32
from nightseg_ros.core.model import IMAGE
from nightseg_ros.core.model import INT8
from nightseg_ros.core.model import LABELS
from nightseg_ros.core.model import Model
from nightseg_ros.core.model import ModelError
from nightseg_ros.core.model import variant

_FORMAT = 1
"""Raise it when ``builder`` sets something that is not in the ingredients: engines are rebuilt."""

_INTEGRATED_WORKSPACE = 1 << 30
"""Bytes of scratch memory on a Jetson, where TensorRT's default, all of the GPU's memory, is that
of every other process too."""


@dataclass(frozen=True)
class Recipe:
    """What is built, for which machine, how.

    Attributes:
        model: the file that is parsed.
        onnx: its content as TensorRT parses it.
        precision: what was asked for.
        strongly_typed: whether the types in the file decide the precision of each layer.
        builder_flags: names of ``tensorrt.BuilderFlag``.
        dla_core: -1 for the GPU.
        workspace: limit of the scratch memory in bytes, 0 for TensorRT's default.
        device: the GPU.
        tensorrt: version.
        machine: processor, 'aarch64'.
    """

    model: Model
    onnx: bytes
    precision: str
    strongly_typed: bool
    builder_flags: tuple[str, ...]
    dla_core: int
    workspace: int
    device: Device
    tensorrt: str
    machine: str

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of inputs and outputs, all uint8; the input first."""
        size = (1, self.model.height, self.model.width)
        names = [LABELS, CONFIDENCE] + ([EXPOSURE] if self.model.has_exposure else [])
        return {IMAGE: (*size, 3), **dict.fromkeys(names, size)}

    @property
    def ingredients(self) -> dict[str, Any]:
        """All that the key is made from."""
        return {
            'format': _FORMAT,
            'onnx_sha256': hashlib.sha256(self.onnx).hexdigest(),
            'shapes': {name: list(shape) for name, shape in self.shapes.items()},
            'precision': self.precision,
            'strongly_typed': self.strongly_typed,
            'builder_flags': list(self.builder_flags),
            'dla_core': self.dla_core,
            'workspace': self.workspace,
            'gpu': self.device.name,
            'compute_capability': self.device.compute_capability,
            'cuda_runtime': self.device.runtime,
            'tensorrt': self.tensorrt,
            'machine': self.machine,
        }

    @property
    def key(self) -> str:
        """SHA-256 of the ingredients, hexadecimal."""
        text = json.dumps(self.ingredients, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def name(self) -> str:
        """File name in the cache, without suffix."""
        model = self.model.name.removesuffix(f'_{self.precision}')
        return f'{model}_{self.precision}_{self.key[:16]}'

    @property
    def timings_name(self) -> str:
        """File name of the timing cache: TensorRT refuses that of another version or GPU."""
        gpu = ''.join(c if c.isalnum() else '-' for c in self.device.name)
        return f'timings_{self.tensorrt}_{gpu}.cache'

    @property
    def how(self) -> str:
        """How the precision comes about, for people."""
        flags = ', '.join(self.builder_flags)
        typing = 'strongly typed' if self.strongly_typed else 'weakly typed'
        return f'{typing}, from {self.model.path.name}' + (f', flags {flags}' if flags else '')


def plan(model: Model, options: BackendOptions, device: Device) -> Recipe:
    """Return how a model is built in the precision that the options name.

    TensorRT's versions differ in how they are told a precision:

    - 8.5 and 8.6 have flags (``BuilderFlag.FP16``, ``INT8``) that let it choose for each layer.
    - 9 and 10 have strongly typed networks too: the types in the ONNX file decide.
    - 11 has only those (migration guide "TensorRT 10.x to 11.x", Removed Python APIs).

    So FP16 is strongly typed where TensorRT can and the FP16 file is there, else by flag from the
    FP32 file. INT8 is always from its file with explicit Q/DQ, never calibrated here; the flags
    INT8 and FP16 then let the layers between the quantised ones run in FP16.

    Raises:
        BackendError: the file of that precision is missing, or TensorRT cannot do it.
    """
    on_dla = options.dla_core >= 0
    flags: tuple[str, ...] = ()
    if options.precision == FP32:
        if on_dla:
            raise BackendError('a DLA computes in fp16 and int8 only: take one, or dla_core -1')
        source = model_in(model, FP32)
    elif options.precision == FP16:
        source, flags = _fp16(model, on_dla)
    else:
        source, flags = model_in(model, INT8), _those_there('INT8', 'FP16')
    strongly_typed = not _those_there('FP16') or (options.precision == FP16 and not flags)
    if on_dla and options.gpu_fallback:
        flags += ('GPU_FALLBACK',)
    adapted = adapt_for_tensorrt(onnx.load_model_from_string(source.content))
    if int(trt.__version__.partition('.')[0]) < 10:
        adapted = with_float_weights(adapted)
    return Recipe(
        model=source,
        onnx=adapted.SerializeToString(deterministic=True),
        precision=options.precision,
        strongly_typed=strongly_typed,
        builder_flags=flags,
        dla_core=options.dla_core if on_dla else -1,
        workspace=_INTEGRATED_WORKSPACE if device.integrated else 0,
        device=device,
        tensorrt=trt.__version__,
        machine=platform.machine(),
    )


def _fp16(model: Model, on_dla: bool) -> tuple[Model, tuple[str, ...]]:
    """Return the file to parse for FP16, and the flags; without flags it is strongly typed."""
    flags = _those_there('FP16')
    if not flags:
        return model_in(model, FP16), ()
    # For a DLA, NVIDIA documents the versions that have the flags with the flags.
    if hasattr(trt.NetworkDefinitionCreationFlag, 'STRONGLY_TYPED') and not on_dla:
        try:
            typed = variant(model, FP16)
        except ModelError as error:
            raise BackendError(str(error)) from error
        if typed is not None:
            return typed, ()
    return (model if model.precision == FP16 else model_in(model, FP32)), flags


def _those_there(*flags: str) -> tuple[str, ...]:
    """Return those of the builder flags that this TensorRT has."""
    return tuple(flag for flag in flags if hasattr(trt.BuilderFlag, flag))
