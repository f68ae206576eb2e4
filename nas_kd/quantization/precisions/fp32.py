"""Single precision: the network as it was trained."""

from torch import Tensor, nn

from nas_kd.export.onnx_export import export_onnx
from nas_kd.export.verify import Parity, verify
from nas_kd.quantization.precision import PrecisionFile, QuantizationInputs


class Fp32:
    """Compared with PyTorch: logits within 1e-4."""

    name = "fp32"
    summary = "single precision, as trained"
    aware = False
    exact = True

    def prepare(self, model: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """The model."""
        return model

    def make(self, model: nn.Module, quantising: QuantizationInputs) -> PrecisionFile:
        """The exported file."""
        return PrecisionFile(export_onnx(model, quantising.input_shape))

    def verify(self, content: bytes, model: nn.Module, x: Tensor) -> Parity:
        """Against PyTorch."""
        return verify(content, model, x)


PLUGIN = Fp32()
