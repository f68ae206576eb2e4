"""Quantises an fp32 file to 8-bit integers with ONNX Runtime's own tools, in QDQ format."""

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from torch import Tensor

from nas_kd.config.options import Calibration
from nas_kd.data.dataset import as_input
from nas_kd.errors import InputError, TrialError
from nas_kd.export.error_text import first_line
from nas_kd.export.onnx_classifier import OnnxClassifier
from nas_kd.quantization.quantized_file import finalize_quantized
from nas_kd.results.candidate import IntegerScheme

BATCH = 32
METHODS: dict[Calibration, CalibrationMethod] = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
ACTIVATIONS: dict[IntegerScheme, QuantType] = {"u8s8": QuantType.QUInt8, "s8s8": QuantType.QInt8}
# With a constant on one side these are normalisations: next to nothing to compute, and a few channels' constants would
# be rounded to one scale.
_ELEMENTWISE = {"Add", "Sub", "Mul", "Div"}
Names = Sequence[str]
Attempt = Callable[[Names], bytes]


def quantize(
    content: bytes, samples: Tensor, calibration: Calibration, scheme: IntegerScheme
) -> tuple[bytes, tuple[str, ...]]:
    """The file in 8-bit integers, and which layers were kept in fp32 because they cannot be quantised.

    Args:
        content: an fp32 file of one input.
        samples: (N, ...) in stored units.
        calibration: how ranges of activations follow from the samples.
        scheme: types of activations and weights.

    Raises:
        TrialError: the file without those layers cannot be quantised either.
    """
    model = onnx.load_from_string(content)
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type} {number}"
    left = [n.name for n in _quantisable(model)]
    add_pre_process_metadata(model)  # else ONNX Runtime prints advice

    def attempt(names: Names) -> bytes:
        return _checked(_quantised(model, samples, calibration, scheme, names), samples)

    try:
        return attempt(left), ()
    except TrialError:
        failing = _failing(left, attempt)
        if not failing:
            raise
    rest = [name for name in left if name not in failing]
    notes = tuple(f"layer {name!r} is kept in fp32: {reason}" for name, reason in failing.items())
    return (attempt(rest) if rest else content), notes


def _quantisable(model: ModelProto) -> list[NodeProto]:
    constants = {w.name for w in model.graph.initializer}
    return [
        n
        for n in model.graph.node
        if n.op_type in {*QDQRegistry, *QLinearOpsRegistry}
        and not (n.op_type in _ELEMENTWISE and constants.intersection(n.input))
    ]


def _failing(names: Names, attempt: Attempt) -> dict[str, str]:
    """Which layers cannot be quantised even alone, and why."""
    failing = {}
    for name in names:
        try:
            attempt([name])
        except TrialError as error:
            failing[name] = str(error)
    return failing


def _quantised(
    model: ModelProto, samples: Tensor, calibration: Calibration, scheme: IntegerScheme, names: Names
) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        try:
            with _quiet():
                quantize_static(
                    source,
                    target,
                    _Batches(model.graph.input[0].name, samples),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    activation_type=ACTIVATIONS[scheme],
                    weight_type=QuantType.QInt8,
                    nodes_to_quantize=list(names),
                    calibrate_method=METHODS[calibration],
                    extra_options={"CalibStridedMinMax": 1},  # one batch's activations in memory at a time
                )
        except Exception as error:  # ONNX Runtime's tools raise whatever they come across
            raise TrialError(f"the file cannot be quantised: {first_line(error)}") from error
        return finalize_quantized(onnx.load(target))


@contextmanager
def _quiet() -> Iterator[None]:
    """Calibrators print their progress, quantisers log which layers they leave alone: neither is for the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logging.disable(before)


def _checked(content: bytes, samples: Tensor) -> bytes:
    """The file, if it runs and says something."""
    try:
        logits = OnnxClassifier(content).predict(samples[:BATCH])
    except InputError as error:
        raise TrialError(f"the quantised file does not run: {error}") from error
    if not np.isfinite(logits).all():
        raise TrialError("the quantised file's logits are not finite")
    return content


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """The samples, batch by batch; `set_range` chooses among the batches."""

    def __init__(self, name: str, samples: Tensor) -> None:
        self._name = name
        self._parts = torch.split(samples, BATCH)
        self.set_range(0, len(self._parts))

    def __len__(self) -> int:
        return len(self._parts)

    def set_range(self, start_index: int, end_index: int) -> None:
        """From the first of these batches up to the second."""
        self._left: Iterator[Tensor] = iter(self._parts[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next batch by the input's name, or None."""
        part = next(self._left, None)
        return None if part is None else {self._name: as_input(part).contiguous().numpy()}
