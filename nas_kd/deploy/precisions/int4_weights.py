"""4-bit weights after training, for budgets of size: a seventh of fp32's file at fp32's speed."""

from torch import Tensor, nn

from nas_kd.deploy.export import export_onnx
from nas_kd.deploy.packed_weights import pack_weights
from nas_kd.deploy.precision import MadeFile, Quantising
from nas_kd.deploy.verify import Parity, verify_quantised


class Int4Weights:
    """Shares its training with fp32."""

    name = "int4-weights"
    summary = "4-bit weights, computed with in fp32: small files at fp32's speed"
    aware = False
    exact = False

    def prepare(self, model: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """The model."""
        return model

    def make(self, model: nn.Module, quantising: Quantising) -> MadeFile:
        """The exported file with its weights packed."""
        return MadeFile(pack_weights(export_onnx(model, quantising.input_shape)))

    def verify(self, content: bytes, model: nn.Module, x: Tensor) -> Parity:
        """Against the fp32 network; whatever accuracy is left is measured, not judged."""
        return verify_quantised(content, model, x)


PLUGIN = Int4Weights()
