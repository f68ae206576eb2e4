"""Sizes of an ONNX file: as it is, without names and metadata, and of its constants. Imports no torch."""

from dataclasses import dataclass

import onnx

from nas_kd.export.external_data import tensor_bytes
from nas_kd.export.minify import strip_unneeded
from nas_kd.export.onnx_graph import tensors


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
    weights = sum(tensor_bytes(tensor) for tensor in tensors(model))
    strip_unneeded(model)
    stripped = len(model.SerializeToString())
    return FileSizes(file=len(content), stripped=min(len(content), stripped), weights=weights)
