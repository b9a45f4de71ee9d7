"""ONNX graphs made ready for quantisation."""

from __future__ import annotations

import onnx
import onnxscript.optimizer

FLOAT_TYPES = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


class QuantizationError(ValueError):
    """A model cannot be quantised, or loses too much by it."""


def folded(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same function without anything that is computed from constants alone.

    Every tensor of the result has a known type and shape.

    Raises:
        QuantizationError: the graph is not valid, or a convolution has no name of its own.
    """
    result = with_shapes(onnxscript.optimizer.optimize(proto))
    names = [node.name for node in result.graph.node if node.op_type == 'Conv']
    if len({*names} - {''}) != len(names):
        raise QuantizationError('the convolutions need different names: export the model again')
    return result


def with_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a checked copy whose types and shapes are inferred anew.

    Raises:
        QuantizationError: the graph is not valid.
    """
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    del bare.graph.value_info[:]
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True)
        onnx.checker.check_model(inferred, full_check=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise QuantizationError(f'the graph is not valid: {error}') from error
    return inferred


def cast_before_transpose(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same function, the frame cast to floating point before it is transposed.

    TensorRT takes uint8 frames only when a cast is the first thing that happens to them.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    image = result.graph.input[0].name
    nodes = list(result.graph.node)
    transpose = next((n for n in nodes if n.op_type == 'Transpose' and n.input[0] == image), None)
    if transpose is None:
        return result
    readers = [node for node in nodes if transpose.output[0] in node.input]
    if [node.op_type for node in readers] != ['Cast']:
        return result
    cast = readers[0]
    behind = cast.output[0]
    cast.input[0], cast.output[0] = image, f'{image}_as_float'
    transpose.input[0], transpose.output[0] = cast.output[0], behind
    first, second = nodes.index(transpose), nodes.index(cast)
    nodes[first], nodes[second] = cast, transpose
    ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del result.graph.node[:]
    result.graph.node.extend(ordered)
    return with_shapes(result)


def convolutions(proto: onnx.ModelProto) -> list[str]:
    """Return the names of the convolutions with constant weights, in order."""
    constants = {initializer.name for initializer in proto.graph.initializer}
    return [n.name for n in proto.graph.node if n.op_type == 'Conv' and n.input[1] in constants]
