"""The fp32 precision: the network in single precision, as it was trained."""

from torch import nn

from nas_kd.data.samples import Samples
from nas_kd.export.onnx_export import export_onnx
from nas_kd.export.verify import Parity, verify
from nas_kd.quantization.precision import PrecisionFile, QuantizationInputs
from nas_kd.tasks.base import Task
from nas_kd.tasks.classification import CLASSIFICATION


class Fp32:
    """Plain export; logits agree with PyTorch's within 1e-4."""

    name = "fp32"
    summary = "single precision, as trained"
    quantization_aware = False
    exact = True

    def prepare(self, model: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """Return the model itself: training is not changed."""
        return model

    def make(self, model: nn.Module, inputs: QuantizationInputs) -> PrecisionFile:
        """Export the network as it is."""
        return PrecisionFile(export_onnx(model, inputs.input_shape, inputs.output, inputs.output_axes))

    def verify(self, content: bytes, model: nn.Module, x: Samples, task: Task = CLASSIFICATION) -> Parity:
        """Compare the file with the PyTorch network; see `export.verify.verify`."""
        return verify(content, model, x, task)


PLUGIN = Fp32()
