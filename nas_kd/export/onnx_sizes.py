"""Sizes of an ONNX file: as it is, without names and metadata, and of its constants. Imports no torch."""

from dataclasses import dataclass
from math import prod

import onnx
from onnx import TensorProto

from nas_kd.export.minify import strip_unneeded
from nas_kd.export.onnx_graph import tensors

# Bits of packed types that are smaller than a byte.
_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}


@dataclass(frozen=True)
class FileSizes:
    """Sizes of one ONNX file in bytes.

    Attributes:
        file: the file as it is.
        stripped: the same network with short names and without metadata and unused weights.
        weights: its constants alone.
    """

    file: int
    stripped: int
    weights: int


def sizes_of(content: bytes) -> FileSizes:
    """Compute the sizes of a file that `read_onnx` accepts."""
    model = onnx.load_from_string(content)
    weights = sum(_bytes(tensor) for tensor in tensors(model))
    strip_unneeded(model)
    stripped = len(model.SerializeToString())
    return FileSizes(file=len(content), stripped=min(len(content), stripped), weights=weights)


def _bytes(tensor: TensorProto) -> int:
    kind = TensorProto.DataType.Name(tensor.data_type)
    if tensor.data_type == TensorProto.STRING:
        return sum(map(len, tensor.string_data))
    bits: int = _BITS.get(kind) or 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return -(-prod(map(int, tensor.dims)) * bits // 8)
