"""Stores the weights of an fp32 file in a few bits each; the network computes in fp32 as before.

Weights are whole numbers times one scale per output channel. They are unpacked by Cast and Mul on constants, which ONNX
Runtime computes once, when it loads the file. DequantizeLinear would say the same, but is run with every call.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, version_converter

from nas_kd.deploy.quantised_file import finished
from nas_kd.deploy.words import first_line
from nas_kd.errors import TrialError

OPSET, IR_VERSION = 21, 10  # the first that have 4-bit integers
SHRUNK = np.linspace(0.4, 1.0, 31)  # of the largest weight: where ranges may end
LOWEST, HIGHEST = -8, 7
Values = NDArray[np.float32]


def pack_weights(content: bytes) -> bytes:
    """The file with its kernels and matrices in 4 bits; what else it holds stays in fp32.

    Raises:
        TrialError: there is no such file, as a weight is not finite, or the network needs operators of another opset.
    """
    model = onnx.load_from_string(content)
    try:
        model = version_converter.convert_version(model, OPSET)
    except RuntimeError as error:
        raise TrialError(f"the file cannot be brought to opset {OPSET}: {first_line(error)}") from error
    model.ir_version = IR_VERSION
    unpacking = [node for name, axis in _weights(model).items() for node in _packed(model, name, axis)]
    nodes = [*unpacking, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return finished(model)


def quantised(weights: Values, axis: int) -> tuple[NDArray[np.int8], Values]:
    """Whole numbers in -8..7, and their scale per channel of `axis`, in a shape that both can be multiplied in.

    A channel's scale is the one of 31 that leaves the smallest squared error: few outliers are clipped for the sake of
    all the others (Banner et al. 2019, arXiv:1810.05723, who choose the clipping value in closed form).

    Raises:
        TrialError: a weight is not finite.
    """
    if not np.isfinite(weights).all():
        raise TrialError("a weight is not finite")
    others = tuple(a for a in range(weights.ndim) if a != axis)
    largest = np.maximum(np.abs(weights).max(axis=others, keepdims=True), np.float32(1e-30))
    scales = [(largest * share / HIGHEST).astype(np.float32) for share in SHRUNK]
    errors = [((_rounded(weights, s) * s - weights) ** 2).sum(axis=others, keepdims=True) for s in scales]
    best = np.take_along_axis(np.stack(scales), np.argmin(errors, axis=0)[np.newaxis], axis=0)[0]
    return _rounded(weights, best).astype(np.int8), best


def _rounded(weights: Values, scale: Values) -> Values:
    rounded: Values = np.clip(np.rint(weights / scale), LOWEST, HIGHEST)
    return rounded


def _weights(model: ModelProto) -> dict[str, int]:
    """Names of the kernels and matrices, and the axis of their output channels."""
    constants = {w.name: len(w.dims) for w in model.graph.initializer if w.data_type == TensorProto.FLOAT}
    found = {n.input[1]: _axis(n, constants[n.input[1]]) for n in model.graph.node if _multiplies(n, constants)}
    return {name: axis for name, axis in found.items() if constants[name] > 1}


def _multiplies(node: NodeProto, constants: dict[str, int]) -> bool:
    return node.op_type in {"Conv", "ConvTranspose", "Gemm", "MatMul"} and node.input[1] in constants


def _axis(node: NodeProto, rank: int) -> int:
    if node.op_type == "MatMul":
        return rank - 1
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if node.op_type == "Conv" or transposed else 1


def _packed(model: ModelProto, name: str, axis: int) -> tuple[NodeProto, NodeProto]:
    """Replace a weight; the nodes that unpack it."""
    weight = next(w for w in model.graph.initializer if w.name == name)
    whole, scale = quantised(numpy_helper.to_array(weight), axis)
    weight.CopyFrom(helper.make_tensor(f"{name}.packed", TensorProto.INT4, whole.shape, _nibbles(whole), raw=True))
    model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
    cast = helper.make_node("Cast", [f"{name}.packed"], [f"{name}.whole"], to=TensorProto.FLOAT)
    return cast, helper.make_node("Mul", [f"{name}.whole", f"{name}.scale"], [name])


def _nibbles(whole: NDArray[np.int8]) -> bytes:
    """Two numbers a byte, the first in the lower half, as ONNX packs them."""
    flat = whole.reshape(-1).view(np.uint8) & 0xF
    even = np.append(flat, np.zeros(len(flat) % 2, np.uint8))
    packed: bytes = (even[::2] | even[1::2] << 4).astype(np.uint8).tobytes()
    return packed
