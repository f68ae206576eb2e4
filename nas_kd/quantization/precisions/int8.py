"""8-bit integers after training: static ranges per tensor for activations, symmetric ones per channel for weights.

Jacob et al. 2018 (arXiv:1712.05877); ranges of activations are calibrated on training samples.
"""

from torch import Tensor, nn

from nas_kd.export.onnx_export import export_onnx
from nas_kd.export.verify import Parity, verify_quantized
from nas_kd.quantization.precision import PrecisionFile, QuantizationInputs
from nas_kd.quantization.static_quantization import quantize


class Int8:
    """Shares its training with fp32."""

    name = "int8"
    summary = "8-bit weights and activations, quantised after training; ranges from training samples"
    aware = False
    exact = False

    def prepare(self, model: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """The model."""
        return model

    def make(self, model: nn.Module, quantising: QuantizationInputs) -> PrecisionFile:
        """The exported file, quantised; layers on which that fails stay in fp32, and are named."""
        content, notes = quantize(
            export_onnx(model, quantising.input_shape), quantising.samples, quantising.calibration, quantising.scheme
        )
        return PrecisionFile(content, notes)

    def verify(self, content: bytes, model: nn.Module, x: Tensor) -> Parity:
        """Against the fp32 network; whatever accuracy is left is measured, not judged."""
        return verify_quantized(content, model, x)


PLUGIN = Int8()
