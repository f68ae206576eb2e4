"""8-bit integers after training: static ranges per tensor for activations, symmetric ones per channel for weights.

Jacob et al. 2018 (arXiv:1712.05877); ranges of activations are calibrated on training samples.
"""

from torch import nn

from nas_kd.data.samples import Samples
from nas_kd.export.onnx_export import export_onnx
from nas_kd.export.verify import Parity, verify_quantized
from nas_kd.quantization.precision import PrecisionFile, QuantizationInputs
from nas_kd.quantization.static_quantization import quantize
from nas_kd.tasks.base import Task
from nas_kd.tasks.classification import CLASSIFICATION


class Int8:
    """Static post-training quantisation to 8 bits; shares its training with fp32."""

    name = "int8"
    summary = "8-bit weights and activations, quantised after training; ranges from training samples"
    quantization_aware = False
    exact = False

    def prepare(self, model: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """Return the model itself: training is not changed."""
        return model

    def make(self, model: nn.Module, inputs: QuantizationInputs) -> PrecisionFile:
        """Export and quantise the network; see `convert`."""
        return self.convert(export_onnx(model, inputs.input_shape, inputs.output, inputs.output_axes), inputs)

    def convert(self, content: bytes, inputs: QuantizationInputs) -> PrecisionFile:
        """Quantise an fp32 file; layers that cannot be quantised stay in fp32 and are noted."""
        return PrecisionFile(*quantize(content, inputs.samples, inputs.calibration, inputs.scheme))

    def verify(self, content: bytes, model: nn.Module, x: Samples, task: Task = CLASSIFICATION) -> Parity:
        """Compare the file with the fp32 network; the loss of accuracy is measured, not limited."""
        return verify_quantized(content, model, x, task)


PLUGIN = Int8()
