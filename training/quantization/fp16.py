"""The FP16 file: every weight and every activation in half precision."""

from __future__ import annotations

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from training.quantization.graph import QuantizationError
from training.quantization.graph import cast_before_transpose
from training.quantization.graph import folded
from training.quantization.graph import with_shapes


def to_fp16(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in FP16, from the cast behind the frame to the casts before the masks.

    Softmax and confidence too: in FP16 they move the confidence by about 0.1 of 255 (see
    docs/quantization.md). TensorRT builds what is typed here as it is (strongly typed networks), so
    nothing may be left in FP32 by chance.

    Raises:
        QuantizationError: some tensor stayed in FP32.
    """
    source = cast_before_transpose(folded(proto))
    half = convert_float_to_float16(source, op_block_list=[], force_fp16_initializers=True)
    result = with_shapes(half)
    left = float32_tensors(result)
    if left:
        raise QuantizationError(f'these tensors stayed in FP32: {", ".join(left[:5])}')
    return result


def float32_tensors(proto: onnx.ModelProto) -> list[str]:
    """Return the names of all FP32 constants and intermediate tensors."""
    kind = onnx.TensorProto.FLOAT
    constants = [c.name for c in proto.graph.initializer if c.data_type == kind]
    return constants + [
        value.name for value in proto.graph.value_info if value.type.tensor_type.elem_type == kind
    ]
