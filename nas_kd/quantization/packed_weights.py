"""Packs the weights of an fp32 file into a few bits each; the network still computes in fp32.

Weights are whole numbers times one scale per output channel. They are unpacked by Cast and Mul on constants, which ONNX
Runtime computes once, when it loads the file. DequantizeLinear would be equivalent, but is run in every call.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, version_converter

from nas_kd.errors import TrialError
from nas_kd.export.error_text import first_line
from nas_kd.quantization.quantized_file import finalize_quantized

CLIP_SHARES = np.linspace(0.2, 1.0, 41)  # candidate clipping values, as shares of the largest weight
Values = NDArray[np.float32]


@dataclass(frozen=True)
class Packing:
    """Number format of packed weights: weight = (whole number + `offset`) x scale.

    Attributes:
        bits: bits per weight, two's complement.
        kind: the ONNX tensor type.
        offset: added to the whole number.
        opset: first ONNX opset with this type.
        ir_version: first ONNX IR version with this type.
    """

    bits: int
    kind: int
    offset: float
    opset: int
    ir_version: int

    @property
    def ends(self) -> tuple[int, int]:
        """Lowest and highest whole number that fit."""
        return -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1


FOUR_BITS = Packing(4, TensorProto.INT4, 0.0, 21, 10)
TWO_BITS = Packing(2, TensorProto.INT2, 0.5, 25, 13)  # -1.5, -0.5, 0.5, 1.5: with four levels, none is spent on 0


def pack_weights(content: bytes, packing: Packing) -> bytes:
    """Pack the kernels and matrices of a file; everything else stays in fp32.

    Args:
        content: an fp32 ONNX file.
        packing: the number format.

    Raises:
        TrialError: a weight is not finite, or the network's operators cannot be converted to the opset.
    """
    model = onnx.load_from_string(content)
    try:
        model = version_converter.convert_version(model, packing.opset)
    except RuntimeError as error:
        raise TrialError(f"the file cannot be brought to opset {packing.opset}: {first_line(error)}") from error
    model.ir_version = packing.ir_version
    unpacking = [node for name, axis in _weights(model).items() for node in _packed(model, name, axis, packing)]
    nodes = [*unpacking, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return finalize_quantized(model)


def quantize_per_channel(weights: Values, axis: int, packing: Packing) -> tuple[NDArray[np.int8], Values]:
    """Round weights to whole numbers times one scale per output channel.

    A channel's scale is the one of 41 candidates with the smallest squared error: clipping a few outliers helps all
    other weights (Banner et al. 2019, arXiv:1810.05723, who choose the clipping value in closed form).

    Args:
        weights: any shape.
        axis: the axis of output channels.
        packing: the number format.

    Returns:
        Whole numbers in the shape of `weights`, and scales that broadcast to it.

    Raises:
        TrialError: a weight is not finite.
    """
    if not np.isfinite(weights).all():
        raise TrialError("a weight is not finite")
    others = tuple(a for a in range(weights.ndim) if a != axis)
    largest = np.maximum(np.abs(weights).max(axis=others, keepdims=True), np.float32(1e-30))
    top, offset = packing.ends[1] + packing.offset, np.float32(packing.offset)
    scales = [(largest * share / top).astype(np.float32) for share in CLIP_SHARES]
    errors = [
        (((_rounded(weights, s, packing) + offset) * s - weights) ** 2).sum(axis=others, keepdims=True) for s in scales
    ]
    best = np.take_along_axis(np.stack(scales), np.argmin(errors, axis=0)[np.newaxis], axis=0)[0]
    return _rounded(weights, best, packing).astype(np.int8), best


def _rounded(weights: Values, scale: Values, packing: Packing) -> Values:
    rounded: Values = np.clip(np.rint(weights / scale - np.float32(packing.offset)), *packing.ends)
    return rounded


def _weights(model: ModelProto) -> dict[str, int]:
    """Names of kernels and matrices, with the axis of their output channels."""
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


def _packed(model: ModelProto, name: str, axis: int, packing: Packing) -> list[NodeProto]:
    """Replace a weight by its packed form and return the nodes that unpack it."""
    weight = next(w for w in model.graph.initializer if w.name == name)
    whole, scale = quantize_per_channel(numpy_helper.to_array(weight), axis, packing)
    stored = helper.make_tensor(f"{name}.packed", packing.kind, whole.shape, _in_bits(whole, packing.bits), raw=True)
    weight.CopyFrom(stored)
    model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
    nodes = [helper.make_node("Cast", [f"{name}.packed"], [f"{name}.whole"], to=TensorProto.FLOAT)]
    if packing.offset:
        model.graph.initializer.append(numpy_helper.from_array(np.array(packing.offset, np.float32), f"{name}.offset"))
        nodes.append(helper.make_node("Add", [f"{name}.whole", f"{name}.offset"], [f"{name}.level"]))
    return [*nodes, helper.make_node("Mul", [nodes[-1].output[0], f"{name}.scale"], [name])]


def _in_bits(whole: NDArray[np.int8], bits: int) -> bytes:
    """Pack several numbers per byte, the first in the lowest bits, as ONNX does."""
    per_byte = 8 // bits
    flat = whole.reshape(-1).view(np.uint8) & (2**bits - 1)
    full = np.append(flat, np.zeros(-len(flat) % per_byte, np.uint8)).reshape(-1, per_byte)
    packed: bytes = np.bitwise_or.reduce(full << np.arange(0, 8, bits, dtype=np.uint8), axis=1).tobytes()
    return packed
