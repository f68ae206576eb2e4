"""A teacher's ONNX file, which is there to be measured only: a teacher is run in PyTorch and never deployed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from nas_kd.data.dataset import Dataset, as_input
from nas_kd.data.samples import Samples
from nas_kd.errors import InputError, TrialError
from nas_kd.export.eval_mode import evaluating
from nas_kd.export.onnx_classifier import Logits, OnnxClassifier, outputs_of_file
from nas_kd.export.onnx_export import export_onnx
from nas_kd.models.wrappers import ContiguousLayout

COMPARED = 64  # samples on which file and network are compared
RELATIVE_TOLERANCE = 1e-2  # of the largest logit: enough to tell rounding from another function


@dataclass(frozen=True)
class TeacherFile:
    """A teacher's ONNX file, and how it and files made of it are run.

    Attributes:
        content: its bytes.
        prepare: what is done with samples (N, ...) in stored units before the file takes them.
        run: what a file with the same inputs and outputs returns for samples (N, ...) in stored units.
    """

    content: bytes
    prepare: Callable[[Tensor], Tensor] = as_input
    run: Callable[[bytes, Samples], Logits] = outputs_of_file


def export_teacher(model: nn.Module, data: Dataset) -> TeacherFile:
    """Export a teacher and see that the file computes what the network does.

    Args:
        model: (B, ...) in stored units -> (B, C) logits.
        data: gives the shape of a sample, and samples to compare on.

    Raises:
        TrialError: there is no such file; the message says why.
    """
    body = model.body if isinstance(model, ContiguousLayout) else model
    content = export_onnx(body, data.input_shape, data.task.output, data.output_axes)
    x = data.val.x[:COMPARED]
    with evaluating(model):
        wanted = model(as_input(x).clone()).float().numpy()
    try:
        found = OnnxClassifier(content).predict(x)
    except InputError as error:
        raise TrialError(f"the exported file does not run: {error}") from error
    difference = float(np.abs(found - wanted).max())
    if found.shape != wanted.shape or not difference <= RELATIVE_TOLERANCE * float(np.abs(wanted).max()):
        raise TrialError(f"the exported file's logits differ from the network's by up to {difference:.2g}")
    return TeacherFile(content)
