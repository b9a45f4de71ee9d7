"""The INT8 file: explicit Q/DQ pairs around the convolutions, where TensorRT wants them.

TensorRT's rules (its developer guide, "Q/DQ layer-placement recommendations") decide:

- symmetric throughout, the zero point is 0; weights per output channel (axis 0), activations per
  tensor; the bias stays in FP32 (TensorRT refuses Q/DQ on it);
- Q/DQ at the inputs of a convolution, not at its output, so that bias, residual addition and ReLU
  fuse into it;
- of the two inputs of a residual addition the skip is quantised, so that the convolution at the
  other one adds it in INT8: an identity skip reads the same Q/DQ pair as the convolution beside it,
  a convolution in the skip gets a pair of its own;
- standard operators alone: Q/DQ per channel are in opset 13, FP16 ones would need opset 19.
"""

from __future__ import annotations

import io
import math
import re
import tempfile
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader
from onnxruntime.quantization import CalibrationMethod
from onnxruntime.quantization import QDQQuantizer
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.calibrate import create_calibrator

from nightseg_ros.core.model import IMAGE
from training.quantization.graph import QuantizationError
from training.quantization.graph import convolutions
from training.quantization.graph import with_shapes

CHUNK = 4
"""Frames whose activations the calibrator holds at once: about 50 MB each."""

HISTOGRAM_BINS = 2048


class _Frames(CalibrationDataReader):
    def __init__(self, frames: Iterable[NDArray[np.uint8]]) -> None:
        self._frames: Iterator[NDArray[np.uint8]] = iter(frames)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Return the next input; None behind the last."""
        frame = next(self._frames, None)
        return None if frame is None else {IMAGE: frame[None]}


def calibrate(
    proto: onnx.ModelProto, frames: Collection[NDArray[np.uint8]], method: str
) -> TensorsData:
    """Return the range of each convolution's input and output over some frames.

    Args:
        proto: a folded FP32 model.
        frames: RGB uint8 [H, W, 3] of its input size.
        method: 'minmax', 'entropy', or 'percentile_P' with P such as 99.99: ranges then hold P
            percent of the values.

    Raises:
        QuantizationError: there is no such method.
    """
    kind, options = _method(method)
    frames = list(frames)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        source = Path(folder) / 'source.onnx'
        onnx.save(proto, str(source))
        calibrator = create_calibrator(
            source,
            ['Conv'],
            augmented_model_path=str(Path(folder) / 'augmented.onnx'),
            calibrate_method=kind,
            extra_options={'symmetric': True, **options},
        )
        for start in range(0, len(frames), CHUNK):
            calibrator.collect_data(_Frames(frames[start : start + CHUNK]))
        return calibrator.compute_data()


def _method(name: str) -> tuple[CalibrationMethod, dict[str, float]]:
    if name == 'minmax':
        return CalibrationMethod.MinMax, {}
    if name == 'entropy':
        return CalibrationMethod.Entropy, {'num_bins': HISTOGRAM_BINS}
    percentile = re.fullmatch(r'percentile_(\d+(?:\.\d+)?)', name)
    if percentile is None or not 50 < float(percentile[1]) <= 100:
        raise QuantizationError(
            f"no calibration method '{name}': choose minmax, entropy or percentile_P, P such as "
            '99.99'
        )
    options = {'num_bins': HISTOGRAM_BINS, 'percentile': float(percentile[1])}
    return CalibrationMethod.Percentile, options


def largest_activation(ranges: TensorsData) -> float:
    """Return the largest magnitude that min/max calibration saw at a convolution."""
    return max(float(np.abs(edge).max()) for data in ranges.values() for edge in data.range_value)


def to_int8(
    proto: onnx.ModelProto,
    ranges: TensorsData,
    kept: Collection[str] = (),
    float_weights: bool = False,
) -> onnx.ModelProto:
    """Return the model with its convolutions in INT8.

    Args:
        proto: a folded FP32 model; not changed.
        ranges: of its activations, from :func:`calibrate`.
        kept: names of the convolutions that stay in FP32.
        float_weights: keep weights in FP32 with a Q/DQ pair, which TensorRT 8 asks for, at four
            times the size; else they are INT8 with a DQ.

    Raises:
        QuantizationError: an activation had no finite range.
    """
    _check_ranges(ranges)
    source = onnx.ModelProto()
    source.CopyFrom(proto)
    chosen = [name for name in convolutions(source) if name not in kept]
    if not chosen:
        return source
    quantizer = QDQQuantizer(
        source,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=ranges,
        nodes_to_quantize=chosen,
        nodes_to_exclude=[],
        op_types_to_quantize=['Conv'],
        extra_options={
            'ActivationSymmetric': True,
            'WeightSymmetric': True,
            'QuantizeBias': False,
            'AddQDQPairToWeight': float_weights,
            'OpTypesToExcludeOutputQuantization': ['Conv'],
        },
    )
    for skip in _convolved_skips(proto, chosen):
        quantizer.quantize_activation_tensor(skip)
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    result = quantizer.model.model
    _read_unquantised(result, kept)
    return with_shapes(result)


def _check_ranges(ranges: TensorsData) -> None:
    for name, data in ranges.items():
        if not all(math.isfinite(float(edge)) for edge in np.ravel(data.range_value)):
            raise QuantizationError(f'{name} has no finite range: the network overflows')


def _convolved_skips(proto: onnx.ModelProto, chosen: Collection[str]) -> list[str]:
    """Return the second input of each addition of two quantised convolutions."""
    producers = {output: node for node in proto.graph.node for output in node.output}
    skips = []
    for node in proto.graph.node:
        if node.op_type == 'Add':
            sources = [producers.get(name) for name in node.input]
            if all(source is not None and source.name in chosen for source in sources):
                skips.append(node.input[1])
    return skips


def _read_unquantised(proto: onnx.ModelProto, kept: Collection[str]) -> None:
    """Let the convolutions that stay in FP32 read what a Q/DQ pair before them reads."""
    producers = {output: node for node in proto.graph.node for output in node.output}
    for node in proto.graph.node:
        source = producers.get(node.input[0]) if node.name in kept else None
        if source is not None and source.op_type == 'DequantizeLinear':
            node.input[0] = producers[source.input[0]].input[0]
    _drop_unread(proto)


def _drop_unread(proto: onnx.ModelProto) -> None:
    """Remove the Q/DQ pairs that nobody reads any more, and their constants."""
    outputs = {value.name for value in proto.graph.output}
    while True:
        read = outputs | {name for node in proto.graph.node for name in node.input}
        unread = [node for node in proto.graph.node if not read & {*node.output}]
        if not unread:
            break
        for node in unread:
            proto.graph.node.remove(node)
    for constant in [c for c in proto.graph.initializer if c.name not in read]:
        proto.graph.initializer.remove(constant)
