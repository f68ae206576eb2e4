"""Quantises an fp32 file to 8-bit integers with ONNX Runtime's own tools, in QDQ format."""

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, ValueInfoProto, helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from torch import Tensor

from nas_kd.config.options import Calibration
from nas_kd.data.dataset import as_input
from nas_kd.errors import InputError, TrialError
from nas_kd.export.error_text import first_line
from nas_kd.export.onnx_classifier import OnnxClassifier, as_number_type
from nas_kd.quantization.quantized_file import finalize_quantized
from nas_kd.quantization.weight_range import WHOLE, weight_limit
from nas_kd.results.candidate import IntegerScheme

BATCH = 32
METHODS: dict[Calibration, CalibrationMethod] = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
ACTIVATIONS: dict[IntegerScheme, QuantType] = {"u8s8": QuantType.QUInt8, "s8s8": QuantType.QInt8}
# With a constant operand these are normalisations: cheap, and quantisation would round the channels' constants to one
# common scale.
_ELEMENTWISE = {"Add", "Sub", "Mul", "Div"}
Names = Sequence[str]
Attempt = Callable[[Names], bytes]


def quantize(
    content: bytes, samples: Tensor, calibration: Calibration, scheme: IntegerScheme
) -> tuple[bytes, tuple[str, ...]]:
    """Quantise a file to 8-bit integers; layers that cannot be quantised stay in fp32.

    Args:
        content: an fp32 file with one input.
        samples: (N, ...) in stored units.
        calibration: how ranges of activations follow from the samples.
        scheme: integer types of activations and weights.

    Returns:
        The quantised file, and a note for each layer that stays in fp32.

    Raises:
        TrialError: the rest of the file cannot be quantised either.
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
    """Layers that cannot be quantised even alone, with the reason."""
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
                    _Batches(model.graph.input[0], samples),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    reduce_range=weight_limit() < WHOLE,
                    activation_type=ACTIVATIONS[scheme],
                    weight_type=QuantType.QInt8,
                    nodes_to_quantize=list(names),
                    calibrate_method=METHODS[calibration],
                    extra_options={"CalibStridedMinMax": 1},  # one batch's activations in memory at a time
                )
        except Exception as error:  # ONNX Runtime's tools raise many kinds of errors
            raise TrialError(f"the file cannot be quantised: {first_line(error)}") from error
        return finalize_quantized(onnx.load(target))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence ONNX Runtime's tools: calibrators print their progress, quantisers log the layers they skip."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logging.disable(before)


def _checked(content: bytes, samples: Tensor) -> bytes:
    """Return the file if it runs and its logits are finite."""
    try:
        logits = OnnxClassifier(content).predict(samples[:BATCH])
    except InputError as error:
        raise TrialError(f"the quantised file does not run: {error}") from error
    if not np.isfinite(logits).all():
        raise TrialError("the quantised file's logits are not finite")
    return content


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Reader of the samples, batch by batch, for ONNX Runtime's calibration."""

    def __init__(self, taken: ValueInfoProto, samples: Tensor) -> None:
        """Read samples as a file takes them; what does not fill a batch of fixed size is left out."""
        tensor = taken.type.tensor_type
        fixed = tensor.shape.dim[0].dim_value if tensor.shape.dim else 0
        self._name, self._dtype = taken.name, helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        self._parts = torch.split(samples[: len(samples) // fixed * fixed] if fixed else samples, fixed or BATCH)
        self.set_range(0, len(self._parts))

    def __len__(self) -> int:
        return len(self._parts)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Continue at batch `start_index` and stop before `end_index`."""
        self._left: Iterator[Tensor] = iter(self._parts[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return the next batch by the input's name, or None at the end."""
        part = next(self._left, None)
        if part is None:
            return None
        return {self._name: as_number_type(as_input(part).contiguous().numpy(), self._dtype)}
