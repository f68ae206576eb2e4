"""Runs ONNX files on the CPU through ONNX Runtime; every reported score is measured this way."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas_kd.data.dataset import Split, as_input
from nas_kd.data.samples import Samples, samples_at_once
from nas_kd.errors import InputError
from nas_kd.export.error_text import first_line
from nas_kd.export.onnx_file import FLAT, OnnxFile, read_onnx
from nas_kd.scores.base import Evidence
from nas_kd.tasks.base import Task

BATCH = 256
Logits = NDArray[np.float32]


class OnnxClassifier:
    """An ONNX classifier loaded into ONNX Runtime on the CPU.

    Attributes:
        file: the checked file.
    """

    def __init__(self, source: Path | bytes | OnnxFile, threads: int = 1) -> None:
        """Read, check and load a file.

        Args:
            source: path or bytes of the file, or the file as `read_onnx` gave it.
            threads: threads of ONNX Runtime.

        Raises:
            InputError: see `read_onnx`; or ONNX Runtime cannot load it.
        """
        self.file = source if isinstance(source, OnnxFile) else read_onnx(source, axes=None)
        self._session = _session(self.file, threads)

    def predict(self, x: Samples) -> Logits:
        """Compute the outputs of samples, batch by batch.

        Args:
            x: (N, ...) uint8 or float32, in stored units, on any device; fed in the file's own number type, rounded if
                that has whole numbers only.

        Returns:
            (N, n_classes) float32: logits, or whatever the file gives for each class; of some tasks with further axes.

        Raises:
            InputError: there are no samples, or the file expects another shape.
        """
        if not len(x):
            raise InputError(f"{self.file.source} was given no samples to run on")
        self.file.require(tuple(x.shape[1:]))
        size = self.file.batch or min(BATCH, samples_at_once(x.shape[1:]))
        parts = [self._run(as_input(x[i : i + size].detach().cpu()), size) for i in range(0, len(x), size)]
        return np.concatenate(parts)

    def _run(self, x: Tensor, size: int) -> Logits:
        n = len(x)
        if self.file.batch is not None and n < size:  # a file with a fixed batch size takes no smaller batch
            x = torch.cat([x, x[-1:].expand(size - n, *x.shape[1:])])
        feed = {self.file.input_name: as_number_type(x.contiguous().numpy(), np.dtype(self.file.dtype))}
        try:
            (logits,) = self._session.run([self.file.output_name], feed)
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise InputError(
                f"{self.file.source} does not run on input {tuple(x.shape)}: {first_line(error)}"
            ) from error
        axes = self.file.axes
        logits = logits.reshape(logits.shape[:2]) if axes == FLAT and _has_ones_behind(logits) else logits
        if (
            not isinstance(logits, np.ndarray)
            or logits.ndim != axes
            or len(logits) != len(x)
            or logits.dtype.kind != "f"
        ):
            wanted = "numbers (batch, n_classes)" if axes == FLAT else f"numbers with {axes} axes, the batch first"
            raise InputError(f"{self.file.source}: the output of {len(x)} samples must be {wanted}")
        return logits[:n].astype(np.float32, copy=False)


def accuracy(model: OnnxClassifier | bytes, split: Split) -> float:
    """Top-1 accuracy (0..1) on a split, measured through ONNX Runtime.

    Args:
        model: a loaded classifier, or the bytes of a file.
        split: samples and labels.

    Raises:
        InputError: the split is empty, or the model does not fit it.
    """
    return float(np.mean(outputs_of_file(model, split.x).argmax(1) == split.y.numpy()))


def outputs_of_file(model: OnnxClassifier | bytes, x: Samples) -> Logits:
    """What ONNX Runtime computes of samples (N, ...) in stored units; see `OnnxClassifier.predict`.

    Args:
        model: a loaded file, or its bytes.
        x: at least one sample.

    Raises:
        InputError: there are no samples, or the model does not fit them.
    """
    return (model if isinstance(model, OnnxClassifier) else OnnxClassifier(model)).predict(x)


def evidence_of_file(model: OnnxClassifier | bytes, split: Split, task: Task) -> Evidence:
    """What a file does with the samples of a split, which its scores follow from.

    Args:
        model: a loaded file, or its bytes.
        split: samples and targets.
        task: of the split.

    Raises:
        InputError: the split is empty, or the model does not fit it.
    """
    return task.evidence(outputs_of_file(model, split.x), split.y.numpy())


def as_number_type(values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert samples to the number type that a file takes; rounded and clipped if that has whole numbers only."""
    if dtype.kind not in "ui":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def _has_ones_behind(values: Any) -> bool:
    return isinstance(values, np.ndarray) and values.ndim > 2 and all(side == 1 for side in values.shape[2:])


def _session(file: OnnxFile, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # failures are raised as exceptions
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # training may use the same cores
    try:
        # Its fallback would print to the terminal, and try the same provider once more.
        return onnxruntime.InferenceSession(
            file.content, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise InputError(f"ONNX Runtime cannot load {file.source}: {first_line(error)}") from error
