"""Verifies on real samples that an exported file computes what the network computes."""

from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import nn

from nas_kd.data.dataset import as_input
from nas_kd.data.samples import Samples
from nas_kd.errors import InputError, TrialError
from nas_kd.export.error_text import first_line
from nas_kd.export.eval_mode import device_of, evaluating
from nas_kd.export.onnx_classifier import BATCH, Logits, OnnxClassifier, accuracy, evidence_of_file, outputs_of_file
from nas_kd.export.onnx_graph import tensors
from nas_kd.tasks.base import Task
from nas_kd.tasks.classification import CLASSIFICATION

__all__ = [
    "Logits",
    "OnnxClassifier",
    "Parity",
    "accuracy",
    "evidence_of_file",
    "outputs_of_file",
    "verify",
    "verify_converted",
    "verify_quantized",
]

# fp32: two orders of summation differ by a few float32 steps (1.2e-7) of the largest logit. The absolute limit applies
# to logits up to 100; beyond, the relative one does, as 1e-4 would be below float32's resolution.
ABSOLUTE = 1e-4
RELATIVE = 1e-6
MIN_AGREEMENT = 0.999
# Quantised: a value between two 8-bit steps may be rounded either way, and everything after it changes slightly.
ROUNDING = 0.1  # of the largest logit
MIN_QUANTIZED_AGREEMENT = 0.97  # share of decisions
MIN_ALLOWED_DIFFERENCES = 3  # decisions that may differ however few samples there are


@dataclass(frozen=True)
class Parity:
    """Comparison of an ONNX file with its PyTorch network.

    Attributes:
        max_abs_difference: largest difference between two logits.
        agreement: share (0..1) of equal decisions.
        disagreements: number of other decisions.
        not_ties: disagreements in which PyTorch's outputs are further apart than rounding explains.
        decisions: number of decisions compared, one a sample unless the task has many places in each.
        tolerance: largest difference allowed.
    """

    max_abs_difference: float
    agreement: float
    disagreements: int
    not_ties: int
    decisions: int
    tolerance: float


def verify(content: bytes, model: nn.Module, x: Samples, task: Task = CLASSIFICATION) -> Parity:
    """Compare an fp32 file with the network it was exported from.

    Args:
        content: the file.
        model: the network.
        x: (N, ...) samples in stored units.
        task: says what the network decides.

    Raises:
        TrialError: the file is not valid or not a single file, its logits are not finite, or it differs from the
            network by more than float32's rounding; the message states which and by how much.
    """
    ours, single = _file_logits(content, x)
    parity = compare(ours, _logits(model, x), task)
    if float(np.abs(single - ours[: len(single)]).max()) > parity.tolerance:
        raise TrialError("the exported file's logits depend on the size of the batch")
    return parity


def verify_quantized(
    content: bytes, model: nn.Module, x: Samples, task: Task = CLASSIFICATION, *, rounds_alike: bool = False
) -> Parity:
    """Compare a quantised file with a network.

    The distance to an fp32 network cannot be bounded in advance and is not limited here; accuracy, which is measured,
    shows whether it is acceptable. A fake-quantised network is close: only values between two steps may be rounded
    either way.

    Args:
        content: the file.
        model: the network.
        x: (N, ...) samples in stored units.
        task: says what the network decides.
        rounds_alike: whether the network rounds as the file does (`FakeQuantized`), which limits the distance.

    Raises:
        TrialError: the file is not valid or not a single file, logits are not finite or depend on the size of the
            batch, or the file is further from a network that rounds alike than rounding explains.
    """
    parity, rounding = _quantized_parity(content, _logits(model, x), x, task)
    if rounds_alike and parity.max_abs_difference > rounding:
        raise TrialError(
            f"the quantised file's logits differ from the network's by up to {parity.max_abs_difference:.2g}; "
            f"rounding explains {rounding:.2g}"
        )
    if rounds_alike and parity.disagreements > max(
        MIN_ALLOWED_DIFFERENCES, (1 - MIN_QUANTIZED_AGREEMENT) * parity.decisions
    ):
        raise TrialError(
            f"the quantised file makes {parity.disagreements} of {parity.decisions} decisions otherwise than the "
            f"network; allowed: {1 - MIN_QUANTIZED_AGREEMENT:.1%}"
        )
    return parity


def verify_converted(content: bytes, source: bytes, x: Samples, task: Task = CLASSIFICATION) -> Parity:
    """Compare a quantised file with the fp32 file that it was made of; see `verify_quantized`.

    Args:
        content: the quantised file.
        source: the fp32 file.
        x: (N, ...) samples as both files take them.
        task: says what the networks decide.

    Raises:
        TrialError: the file is not valid or not a single file, or its logits are not finite or depend on the size of
            the batch.
    """
    return _quantized_parity(content, _file_logits(source, x)[0], x, task)[0]


def _quantized_parity(content: bytes, wanted: Logits, x: Samples, task: Task) -> tuple[Parity, float]:
    """The distance of a quantised file's logits from the wanted ones, and how much of it rounding explains."""
    ours, single = _file_logits(content, x)
    parity = _distance(ours, wanted, float("inf"), task)
    rounding = ROUNDING * float(np.abs(ours).max()) + ABSOLUTE
    if float(np.abs(single - ours[: len(single)]).max()) > rounding:
        raise TrialError("the quantised file's logits depend on the size of the batch")
    return parity, rounding


def _file_logits(content: bytes, x: Samples) -> tuple[Logits, Logits]:
    """Logits of all samples in batches, and of the first two samples one by one."""
    _check_file(content)
    try:
        classifier = OnnxClassifier(content)
        return classifier.predict(x), np.concatenate([classifier.predict(x[i : i + 1]) for i in range(min(2, len(x)))])
    except InputError as error:  # an exported file that does not run is not the user's mistake
        raise TrialError(str(error)) from error


def compare(onnx_logits: Logits, torch_logits: Logits, task: Task = CLASSIFICATION) -> Parity:
    """Compare the logits of a file with those of its network.

    Args:
        onnx_logits: (N, n_classes) of the file.
        torch_logits: (N, n_classes) of the network.
        task: says what they decide.

    Raises:
        TrialError: they differ by more than float32's rounding; see `verify`.
    """
    tolerance = max(ABSOLUTE, RELATIVE * float(np.abs(torch_logits).max(initial=0)))
    parity = _distance(onnx_logits, torch_logits, tolerance, task)
    _check(parity)
    return parity


def _distance(onnx_logits: Logits, torch_logits: Logits, tolerance: float, task: Task) -> Parity:
    if onnx_logits.shape != torch_logits.shape:
        raise TrialError(f"the exported file's logits are {onnx_logits.shape}, the network's {torch_logits.shape}")
    for origin, logits in (("network", torch_logits), ("exported file", onnx_logits)):
        if not np.isfinite(logits).all():
            raise TrialError(f"the {origin}'s logits are not finite on {_bad_rows(logits)} of {len(logits)} samples")
    difference = float(np.abs(onnx_logits - torch_logits).max())
    rows, gaps, places = task.differences(torch_logits, onnx_logits)
    decisions = len(torch_logits) if places is None else places
    return Parity(
        max_abs_difference=difference,
        agreement=1 - len(rows) / decisions,
        disagreements=len(rows),
        not_ties=int((gaps > 2 * tolerance).sum()),
        decisions=decisions,
        tolerance=tolerance,
    )


def _check(parity: Parity) -> None:
    if parity.max_abs_difference > parity.tolerance:
        raise TrialError(
            f"the exported file's logits differ from the network's by up to {parity.max_abs_difference:.2g}; "
            f"allowed: {parity.tolerance:.2g}"
        )
    if parity.not_ties or (parity.agreement < MIN_AGREEMENT and parity.disagreements > 1):
        raise TrialError(
            f"the exported file makes {parity.disagreements} of {parity.decisions} decisions otherwise than the "
            f"network, {parity.not_ties} of them not ties; allowed: {1 - MIN_AGREEMENT:.1%}, ties only"
        )


def _check_file(content: bytes) -> None:
    try:
        onnx.checker.check_model(content, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise TrialError(f"the exported ONNX file is not valid: {first_line(error)}") from error
    if any(t.data_location == TensorProto.EXTERNAL for t in tensors(onnx.load_from_string(content))):
        raise TrialError("the exported ONNX file keeps weights in external files")


def _logits(model: nn.Module, x: Samples) -> Logits:
    device = device_of(model)
    with evaluating(model):
        parts = [model(as_input(x[i : i + BATCH]).to(device)).float().cpu() for i in range(0, len(x), BATCH)]
    return torch.cat(parts).numpy()


def _bad_rows(logits: NDArray[np.float32]) -> int:
    return int((~np.isfinite(logits)).reshape(len(logits), -1).any(1).sum())
