"""Finishes a quantised ONNX graph: small, and with a length that depends on the architecture alone."""

from onnx import ModelProto, TensorProto, numpy_helper

from nas_kd.export.minify import minify, serialize_checked

_WEIGHT_KINDS = {TensorProto.INT8, TensorProto.INT32}


def finalize_quantized(model: ModelProto) -> bytes:
    """Minify and serialise a quantised model, which is changed in place.

    Raises:
        TrialError: the model is not a valid ONNX model.
    """
    _drop_zero_points_of_weights(model)
    minify(model)
    for tensor in model.graph.initializer:
        _store_raw(tensor)
    return serialize_checked(model, "quantised")


def _drop_zero_points_of_weights(model: ModelProto) -> None:
    """Drop zero points of 0, the default, from convolutions' kernels and biases.

    Only there: without zero points ONNX Runtime computes convolutions in integers, but no other layers.
    """
    weights = {w.name: w for w in model.graph.initializer}
    of_kernels = {name for node in model.graph.node if node.op_type == "Conv" for name in node.input[1:]}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.output[0] in of_kernels and len(node.input) == 3:
            zero = numpy_helper.to_array(weights[node.input[2]])
            if weights[node.input[0]].data_type in _WEIGHT_KINDS and not zero.any():
                del node.input[2]


def _store_raw(tensor: TensorProto) -> None:
    # In a list of numbers, a zero point of 200 takes one byte more than a zero point of 0.
    if not tensor.HasField("raw_data"):
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
