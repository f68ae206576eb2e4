"""A teacher's ONNX file, which is there to be measured only: a teacher is run in PyTorch and never deployed."""

import numpy as np
from torch import nn

from nas_kd.data.dataset import Dataset, as_input
from nas_kd.errors import InputError, TrialError
from nas_kd.export.eval_mode import evaluating
from nas_kd.export.onnx_classifier import OnnxClassifier
from nas_kd.export.onnx_export import export_onnx
from nas_kd.models.wrappers import ContiguousLayout

COMPARED = 64  # samples on which file and network are compared
RELATIVE_TOLERANCE = 1e-2  # of the largest logit: enough to tell rounding from another function


def teacher_file(model: nn.Module, data: Dataset) -> bytes:
    """Export a teacher and see that the file computes what the network does.

    Args:
        model: (B, ...) in stored units -> (B, C) logits.
        data: gives the shape of a sample, and samples to compare on.

    Raises:
        TrialError: there is no such file; the message says why.
    """
    content = export_onnx(model.body if isinstance(model, ContiguousLayout) else model, data.input_shape)
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
    return content
