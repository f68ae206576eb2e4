"""8-bit integers by quantisation-aware distillation: the file carries ranges that were learnt in training.

Polino et al. 2018 (arXiv:1802.05668): the student is fake-quantised, its teachers are in full precision. How ranges are
learnt: `nas_kd.quantization.quantizer`; when quantizers are switched on: `nas_kd.engine.qat_schedule`.
"""

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from nas_kd.data.dataset import as_input
from nas_kd.data.samples import Samples
from nas_kd.errors import TrialError
from nas_kd.export.error_text import first_line
from nas_kd.export.eval_mode import device_of, evaluating
from nas_kd.export.onnx_export import export_onnx
from nas_kd.export.verify import Parity, verify_quantized
from nas_kd.quantization.fake_quantized import FakeQuantized, fake_quantized_modules
from nas_kd.quantization.integer_file import integer_file
from nas_kd.quantization.precision import PrecisionFile, QuantizationInputs
from nas_kd.tasks.base import Task
from nas_kd.tasks.classification import CLASSIFICATION

BATCH = 32


class Int8Qat:
    """Quantisation-aware training; it departs from the training in fp32 when quantizers start to observe."""

    name = "int8-qat"
    summary = "8-bit weights and activations, rounded while the student is distilled; ranges are learnt"
    quantization_aware = True
    exact = False

    def prepare(self, model: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """Wrap the model in quantizers, which are off at first.

        Raises:
            TrialError: the network does not run on this shape.
        """
        generator = torch.Generator().manual_seed(0)
        example = torch.rand(2, *input_shape, generator=generator).to(device_of(model))
        try:
            return FakeQuantized(model, example)
        except RuntimeError as error:
            raise TrialError(f"the network cannot be quantised: {first_line(error)}") from error

    def make(self, model: nn.Module, inputs: QuantizationInputs) -> PrecisionFile:
        """Export with the learnt ranges; for a network that was never quantised, observe them on the samples."""
        parts = fake_quantized_modules(model)
        if any(part.phase != "on" for part in parts):
            _observe(model, parts, inputs.samples)
        with ExitStack() as stack:
            for part in parts:
                stack.enter_context(part.exporting())
            content = export_onnx(model, inputs.input_shape, inputs.output, inputs.output_axes)
        left = sorted({name for part in parts for name in part.unquantized})
        notes = tuple(f"weights of {name!r} are kept in fp32: no 8-bit kernel is known for it" for name in left)
        return PrecisionFile(integer_file(content, inputs.scheme), notes)

    def verify(self, content: bytes, model: nn.Module, x: Samples, task: Task = CLASSIFICATION) -> Parity:
        """Compare the file with the fake-quantised network, which rounds alike."""
        return verify_quantized(content, model, x, task, rounds_alike=True)


def _observe(model: nn.Module, parts: list[FakeQuantized], samples: Tensor) -> None:
    for part in parts:
        part.enter("observing")
    with evaluating(model):
        for batch in torch.split(samples, BATCH):
            model(as_input(batch).to(device_of(model)))
    for part in parts:
        part.enter("on")


PLUGIN = Int8Qat()
