"""A released graph in the form that TensorRT parses."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto
from onnx import helper
from onnx import numpy_helper


def adapt_for_tensorrt(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same function with uint8 at the edges of the graph alone.

    TensorRT knows uint8 only as network input and output. Inside, its ONNX parser refuses it: no
    layer but a cast takes a uint8 input, not even a transpose (NVIDIA/TensorRT issue 3985, and
    "TensorRT does not support UINT8 types for intermediate tensors!" in ModelImporter.cpp of
    onnx-tensorrt 8.6 to 10.1), and casts from and to it are from and to floating point alone
    (importer of Cast in onnx-tensorrt 8.5; ``tensorrt.DataType.UINT8`` in the documentation of
    later ones), so not from the integers of an argmax. A released graph does both. Here

    - every uint8 input is cast to float32 first, and all its readers read that;
    - every uint8 output is cast last, and from float32: a cast to uint8 that is there already
      gets one to float32 before it, anything else gets one behind it.

    All values are whole numbers below 256, or are truncated by the same cast as before: the
    outputs stay equal bit by bit. TensorRT drops casts from float32 to float32.

    Args:
        proto: inputs and outputs uint8; not changed.
    """
    adapted = onnx.ModelProto()
    adapted.CopyFrom(proto)
    graph = adapted.graph
    del graph.value_info[:]  # types between the nodes, which change

    first = [_cast(i.name, _float_name(i.name), TensorProto.FLOAT) for i in graph.input]
    renamed = {node.input[0]: node.output[0] for node in first}
    outputs = {value.name for value in graph.output}
    nodes, last = [], []
    for original in proto.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        node.input[:] = [renamed.get(name, name) for name in node.input]
        made = outputs.intersection(node.output)
        if made and _casts_to_uint8(node):
            value = node.input[0]
            node.input[0] = f'tensorrt/{node.output[0]}_before_cast'
            nodes.append(_cast(value, node.input[0], TensorProto.FLOAT))
        else:
            renamed.update({name: _float_name(name) for name in made})
            node.output[:] = [renamed.get(name, name) for name in node.output]
            last += [_cast(renamed[name], name, TensorProto.UINT8) for name in sorted(made)]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend([*first, *nodes, *last])
    return adapted


def with_float_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same function with float32 weights where INT8 ones are dequantised.

    TensorRT 8 wants quantised weights as float32 followed by QuantizeLinear and DequantizeLinear
    (its developer guide, "Quantized weights"; its parser refuses INT8 initialisers: onnxruntime
    issue 11535); later ones take both. The floats are those that dequantising yields, so
    quantising them gives back the INT8 values.

    Args:
        proto: weights per output channel (axis 0) or per tensor; not changed.
    """
    adapted = onnx.ModelProto()
    adapted.CopyFrom(proto)
    graph = adapted.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        weights = constants.get(node.input[0]) if node.op_type == 'DequantizeLinear' else None
        if weights is not None and weights.data_type == TensorProto.INT8:
            scale = numpy_helper.to_array(constants[node.input[1]])
            values = numpy_helper.to_array(weights).astype(np.float32)
            widened = values * scale.reshape(-1, *[1] * (values.ndim - 1))
            weights.CopyFrom(numpy_helper.from_array(widened.astype(np.float32), weights.name))
            quantized = f'tensorrt/{weights.name}_quantized'
            quantize = helper.make_node('QuantizeLinear', list(node.input), [quantized])
            quantize.attribute.extend(node.attribute)
            nodes.append(quantize)
            node.input[0] = quantized
        nodes.append(node)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    return adapted


def _float_name(name: str) -> str:
    return f'tensorrt/{name}_float'


def _casts_to_uint8(node: onnx.NodeProto) -> bool:
    return node.op_type == 'Cast' and node.attribute[0].i == TensorProto.UINT8


def _cast(value: str, to: str, kind: int) -> onnx.NodeProto:
    return helper.make_node('Cast', [value], [to], name=f'{to}_cast', to=kind)
