"""Torch's two exporters to ONNX; what they print and warn of goes to the log."""

import io
from importlib.util import find_spec
from typing import Any

import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn

from nas_kd.errors import TrialError
from nas_kd.export.captured_text import captured_text
from nas_kd.export.error_text import first_line
from nas_kd.export.missing_operators import replace_boolean_eyes

OPSET = 17
TRACER_WARNING = "TracerWarning"  # a class that torch.jit does not export
DYNAMO_OPSET = 18  # the oldest that the other exporter writes without converting


def trace(model: nn.Module, example: Tensor, output: str) -> tuple[ModelProto, bool]:
    """Export by the TorchScript-based exporter, which takes a tenth of the time of the other one.

    Args:
        model: in evaluation mode; x (B, ...) -> logits (B, C).
        example: (B, ...) what it is traced with.
        output: name of the output.

    Returns:
        The model, and whether tracing may have made a constant of something that depends on the input.

    Raises:
        TrialError: the network cannot be exported.
    """
    buffer = io.BytesIO()
    target: Any = buffer  # the annotation of `f` excludes buffers, but the TorchScript-based exporter accepts them
    try:
        with captured_text() as raised:
            torch.onnx.export(
                model,
                (example,),
                target,
                dynamo=False,
                opset_version=OPSET,
                input_names=["input"],
                output_names=[output],
                dynamic_axes={"input": {0: "batch"}, output: {0: "batch"}},
            )
    except (Exception, SystemExit) as error:  # a user's network and the exporter may raise anything
        raise TrialError(f"the network cannot be exported to ONNX: {first_line(error)}") from error
    doubtful = any(type(warning).__name__ == TRACER_WARNING for warning in raised)
    exported = onnx.load_from_string(buffer.getvalue())
    replace_boolean_eyes(exported)
    return exported, doubtful


def has_dynamo() -> bool:
    """Whether the other exporter, torch.export with onnxscript, is installed."""
    return find_spec("onnxscript") is not None


def export_by_dynamo(model: nn.Module, example: Tensor, output: str) -> ModelProto:
    """Export by the exporter that follows torch.export; it needs the package onnxscript.

    Args:
        model: in evaluation mode; x (B, ...) -> logits (B, C).
        example: (B, ...) what it takes.
        output: name of the output.

    Raises:
        TrialError: the network cannot be exported.
    """
    try:
        with captured_text():
            program: Any = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                opset_version=DYNAMO_OPSET,
                input_names=["input"],
                output_names=[output],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
            exported: ModelProto = program.model_proto
    except (Exception, SystemExit) as error:
        raise TrialError(f"the network cannot be exported to ONNX: {first_line(error)}") from error
    return exported
