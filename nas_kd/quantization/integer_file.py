"""Converts the exported file of a fake-quantised network into an equivalent file with integer weights.

The exporter writes fake quantisation as pairs of QuantizeLinear and DequantizeLinear. Here weights become integers,
batch normalisation is folded into them, and biases become integers at the products' scale, as 8-bit kernels need them.
"""

import numpy as np
import onnx
from onnx import NodeProto, helper

from nas_kd.export.editable_graph import EditableGraph
from nas_kd.quantization.quantized_file import finalize_quantized
from nas_kd.quantization.weight_range import weight_limit
from nas_kd.results.candidate import IntegerScheme

# Kernels read and write integers. Operators that only move values keep the grid; a pair after them restates it.
_GRID_PRESERVING = {"Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "MaxPool"}
_MAX_BIAS = 2.0**30  # of 2^31: headroom for the sum of products


def integer_file(content: bytes, scheme: IntegerScheme) -> bytes:
    """Convert an exported file to integer weights and activations.

    Args:
        content: the exported ONNX file.
        scheme: integer types of activations and weights.

    Raises:
        TrialError: a weight or a range is not finite, or the result is not a valid file.
    """
    graph = EditableGraph(onnx.load_from_string(content))
    for node in graph.nodes_of_type("QuantizeLinear"):
        if node.input[0] in graph.constants:
            _store_integers(graph, node)
    for node in graph.nodes_of_type("Transpose"):
        _transpose_integers(graph, node)
    for node in [*graph.nodes_of_type("Conv"), *graph.nodes_of_type("Gemm")]:
        _unshare_weight(graph, node)
    for node in graph.nodes_of_type("BatchNormalization"):
        _fold_batchnorm(graph, node)
    for node in graph.nodes_of_type("QuantizeLinear"):
        _unshare_range(graph, node)
    for node in [n for n in graph.nodes if n.op_type in _GRID_PRESERVING]:
        _requantize_output(graph, node)
    for node in [*graph.nodes_of_type("Conv"), *graph.nodes_of_type("Gemm")]:
        _integer_bias(graph, node)
    if scheme == "s8s8":
        _shift_zero_points(graph)
    return finalize_quantized(graph.to_model())


def _store_integers(graph: EditableGraph, node: NodeProto) -> None:
    """Replace the QuantizeLinear of a weight by its result."""
    weight, step = (graph.finite_constant(name) for name in node.input[:2])
    whole = np.rint(weight / step.reshape(-1, *(1 for _ in weight.shape[1:]))).clip(-weight_limit(), weight_limit())
    name = f"{node.output[0]}.whole"
    graph.constants[name] = whole.astype(np.int8)
    graph.replace_input(node.output[0], name)
    graph.nodes.remove(node)


def _transpose_integers(graph: EditableGraph, node: NodeProto) -> None:
    source = graph.weight_dequantizer(node.input[0])
    if source is None:
        return
    order = list(node.attribute[0].ints)
    graph.constants[source.input[0]] = np.ascontiguousarray(graph.constants[source.input[0]].transpose(order))
    axis = next(a for a in source.attribute if a.name == "axis")
    axis.i = order.index(axis.i)
    graph.replace_input(node.output[0], node.input[0])
    graph.nodes.remove(node)


def _unshare_weight(graph: EditableGraph, node: NodeProto) -> None:
    """Give a layer integers and steps of its own; exporters merge those that happen to be equal."""
    source = graph.weight_dequantizer(node.input[1])
    if source is None:
        return
    copy = NodeProto()
    copy.CopyFrom(source)
    for place, old in enumerate(source.input):
        copy.input[place] = f"{node.output[0]}.weight.{place}"
        graph.constants[copy.input[place]] = graph.constants[old]
    copy.output[0] = f"{node.output[0]}.weight"
    graph.nodes.insert(graph.nodes.index(node), copy)
    node.input[1] = copy.output[0]
    if not graph.consumers(source.output[0]):
        graph.nodes.remove(source)


def _unshare_range(graph: EditableGraph, node: NodeProto) -> None:
    """The same for activations: a file's size must not depend on which ranges happen to be equal."""
    names = [f"{node.output[0]}.step", f"{node.output[0]}.zero"]
    for name, old in zip(names, node.input[1:], strict=True):
        graph.constants[name] = graph.constants[old]
    for user in [node, *graph.consumers(node.output[0])]:
        user.input[1:] = names


def _fold_batchnorm(graph: EditableGraph, node: NodeProto) -> None:
    """Fold batch normalisation into the convolution before it: a factor on each channel's step, and a bias."""
    conv = graph.producer(node.input[0])
    if conv is None or conv.op_type != "Conv" or len(graph.consumers(conv.output[0])) > 1:
        return
    weight = graph.weight_dequantizer(conv.input[1])
    if weight is None:
        return
    gamma, beta, mean, variance = (graph.finite_constant(name) for name in node.input[1:5])
    epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
    factor = gamma / np.sqrt(variance + epsilon)
    bias = graph.constants[conv.input[2]].astype(np.float64) if len(conv.input) > 2 else np.zeros_like(mean)
    whole, step = graph.constants[weight.input[0]], graph.constants[weight.input[1]].astype(np.float64)
    flip = np.where(factor < 0, -1, 1).reshape(-1, *(1 for _ in whole.shape[1:]))
    graph.constants[weight.input[0]] = (whole * flip).astype(np.int8)
    graph.constants[weight.input[1]] = np.maximum(step * np.abs(factor), np.finfo(np.float32).tiny).astype(np.float32)
    graph.constants[f"{node.output[0]}.folded"] = ((bias - mean) * factor + beta).astype(np.float32)
    conv.input[:] = [*conv.input[:2], f"{node.output[0]}.folded"]
    graph.nodes.remove(node)
    graph.replace_input(node.output[0], conv.output[0])


def _requantize_output(graph: EditableGraph, node: NodeProto) -> None:
    """Restate the grid after an operator that only moves values, so that both sides of it are integers."""
    source = graph.value_dequantizer(node.input[0])
    if source is None or any(n.op_type == "QuantizeLinear" for n in graph.consumers(node.output[0])):
        return
    result = node.output[0]
    node.output[0] = f"{result}.moved"
    pair = [
        helper.make_node("QuantizeLinear", [f"{result}.moved", *source.input[1:]], [f"{result}.whole"]),
        helper.make_node("DequantizeLinear", [f"{result}.whole", *source.input[1:]], [result]),
    ]
    place = graph.nodes.index(node) + 1
    graph.nodes[place:place] = pair


def _integer_bias(graph: EditableGraph, node: NodeProto) -> None:
    """Store the bias in multiples of (step of the input) x (step of the weights), the unit of the products.

    A channel with tiny weights has a step so small that its bias would overflow; there the step is enlarged.
    """
    source, weight = graph.value_dequantizer(node.input[0]), graph.weight_dequantizer(node.input[1])
    if source is None or weight is None or len(node.input) < 3 or node.input[2] not in graph.constants:
        return
    name, bias = f"{node.output[0]}.bias", graph.finite_constant(node.input[2])
    input_step = float(graph.finite_constant(source.input[1]))
    whole, step = graph.constants[weight.input[0]], graph.constants[weight.input[1]].astype(np.float64)
    larger = np.maximum(step, np.abs(bias) / (input_step * _MAX_BIAS)).astype(np.float32)
    shape = (-1, *(1 for _ in whole.shape[1:]))
    graph.constants[weight.input[0]] = np.rint(whole * (step / larger).reshape(shape)).astype(np.int8)
    graph.constants[weight.input[1]] = larger
    products = (larger * np.float32(input_step)).astype(np.float32)
    graph.constants[f"{name}.whole"] = np.rint(bias / products.astype(np.float64)).astype(np.int32)
    graph.constants[f"{name}.step"] = products
    zero = f"{name}.zero"
    graph.constants[zero] = np.zeros(len(products), np.int32)
    made = helper.make_node("DequantizeLinear", [f"{name}.whole", f"{name}.step", zero], [name], axis=0)
    graph.nodes.insert(graph.nodes.index(node), made)
    node.input[2] = made.output[0]


def _shift_zero_points(graph: EditableGraph) -> None:
    """Shift the activations' integers from 0..255 to -128..127."""
    names = {n.input[2] for n in graph.nodes_of_type("QuantizeLinear")}
    for name in names:
        graph.constants[name] = (graph.constants[name].astype(np.int16) - 128).astype(np.int8)
