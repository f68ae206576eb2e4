"""Weights of two bits: the smallest files; few networks keep their accuracy without being trained for it.

Needs an ONNX Runtime that supports 2-bit integers (opset 25).
"""

from nas_kd.quantization.packed_weights import TWO_BITS
from nas_kd.quantization.precisions.int4_weights import PackedWeights

PLUGIN = PackedWeights(
    "int2-weights", "2-bit weights, computation in fp32: the smallest files, with a loss of accuracy", TWO_BITS
)
