"""Counts the multiply-adds of an ONNX file in a real run of it. Imports no torch."""

from math import prod

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto

from nas_kd.errors import InputError
from nas_kd.export.onnx_file import OnnxFile

# Counted operators -> index of the input that holds the weights.
_COUNTED = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "ConvTranspose": 1}
_COUNTED |= {"Gemm": 1, "MatMul": 1, "MatMulInteger": 1, "QLinearMatMul": 3, "QGemm": 3, "MatMulNBits": 1}


def count_onnx_macs(file: OnnxFile, input_shape: tuple[int, ...]) -> int:
    """Count multiply-adds of the convolutions and matrix products of an ONNX file for one sample.

    Shapes come from a real run, as shape inference fails on some graphs.

    Args:
        file: a checked file.
        input_shape: shape of one sample.

    Raises:
        InputError: the file does not run on this shape.
    """
    model = onnx.load_from_string(file.content)
    counted = [node for node in model.graph.node if node.op_type in _COUNTED]
    shapes = _shapes_in_run(model, file, counted, (file.batch or 1, *input_shape))
    return sum(_macs(node, shapes) for node in counted) // (file.batch or 1)


def _shapes_in_run(
    model: ModelProto, file: OnnxFile, wanted: list[NodeProto], shape: tuple[int, ...]
) -> dict[str, tuple[int, ...]]:
    shapes = {w.name: tuple(w.dims) for w in model.graph.initializer} | {file.input_name: shape}
    names = dict.fromkeys(name for n in wanted for name in _touched(n))
    asked = [name for name in names if name not in shapes]
    if not asked:  # nothing to count
        return shapes
    model.graph.ClearField("output")
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in asked)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
        values = session.run(asked, {file.input_name: np.zeros(shape, file.dtype)})
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise InputError(f"{file.source} does not run on input {shape}") from error
    return shapes | {name: value.shape for name, value in zip(asked, values, strict=True)}


def _macs(node: NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    first, weight, out = (shapes[name] for name in _touched(node))
    if "Conv" in node.op_type and node.op_type != "ConvTranspose":
        # weight: (out channels, in channels / groups, *kernel)
        return prod(out) * prod(weight[1:])
    if node.op_type == "ConvTranspose":  # weight: (in channels, out channels / groups, *kernel)
        return prod(first) * prod(weight[1:])
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return prod(out) * (first[0] if transposed else first[-1])


def _touched(node: NodeProto) -> tuple[str, str, str]:
    return node.input[0], node.input[_COUNTED[node.op_type]], node.output[0]
