"""Weights of a few bits after training, for budgets of size: fp32's speed."""

from torch import Tensor, nn

from nas_kd.export.onnx_export import export_onnx
from nas_kd.export.verify import Parity, verify_quantized
from nas_kd.quantization.packed_weights import FOUR_BITS, Packing, pack_weights
from nas_kd.quantization.precision import PrecisionFile, QuantizationInputs


class PackedWeights:
    """Shares its training with fp32."""

    aware = False
    exact = False

    def __init__(self, name: str, summary: str, packing: Packing) -> None:
        self.name, self.summary, self._packing = name, summary, packing

    def prepare(self, model: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """The model."""
        return model

    def make(self, model: nn.Module, quantising: QuantizationInputs) -> PrecisionFile:
        """The exported file with its weights packed."""
        return PrecisionFile(pack_weights(export_onnx(model, quantising.input_shape), self._packing))

    def verify(self, content: bytes, model: nn.Module, x: Tensor) -> Parity:
        """Against the fp32 network; whatever accuracy is left is measured, not judged."""
        return verify_quantized(content, model, x)


PLUGIN = PackedWeights("int4-weights", "4-bit weights, computed with in fp32: small files at fp32's speed", FOUR_BITS)
