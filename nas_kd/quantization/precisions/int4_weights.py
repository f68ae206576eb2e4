"""Weights of a few bits, packed after training: smaller files at the speed of fp32."""

from torch import nn

from nas_kd.data.samples import Samples
from nas_kd.export.onnx_export import export_onnx
from nas_kd.export.verify import Parity, verify_quantized
from nas_kd.quantization.packed_weights import FOUR_BITS, Packing, pack_weights
from nas_kd.quantization.precision import PrecisionFile, QuantizationInputs
from nas_kd.tasks.base import Task
from nas_kd.tasks.classification import CLASSIFICATION


class PackedWeights:
    """Precision with packed weights and fp32 computation; shares its training with fp32."""

    quantization_aware = False
    exact = False

    def __init__(self, name: str, summary: str, packing: Packing) -> None:
        """Define a precision by its name, its line in lists and the number format of its weights."""
        self.name, self.summary, self._packing = name, summary, packing

    def prepare(self, model: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """Return the model itself: training is not changed."""
        return model

    def make(self, model: nn.Module, inputs: QuantizationInputs) -> PrecisionFile:
        """Export the network and pack its weights."""
        return self.convert(export_onnx(model, inputs.input_shape, inputs.output, inputs.output_axes), inputs)

    def convert(self, content: bytes, inputs: QuantizationInputs) -> PrecisionFile:
        """Pack the weights of an fp32 file."""
        return PrecisionFile(pack_weights(content, self._packing))

    def verify(self, content: bytes, model: nn.Module, x: Samples, task: Task = CLASSIFICATION) -> Parity:
        """Compare the file with the fp32 network; the loss of accuracy is measured, not limited."""
        return verify_quantized(content, model, x, task)


PLUGIN = PackedWeights(
    "int4-weights", "4-bit weights, computation in fp32: small files at the speed of fp32", FOUR_BITS
)
