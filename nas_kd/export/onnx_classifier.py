"""Runs ONNX classifiers on the CPU through ONNX Runtime; every reported accuracy is measured this way."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_kd.data.dataset import Split, as_input
from nas_kd.errors import InputError
from nas_kd.export.error_text import first_line
from nas_kd.export.onnx_file import OnnxFile, read_onnx
from nas_kd.scores.base import Decisions

BATCH = 256
Logits = NDArray[np.float32]


class OnnxClassifier:
    """An ONNX classifier loaded into ONNX Runtime on the CPU.

    Attributes:
        file: the checked file.
    """

    def __init__(self, source: Path | bytes, threads: int = 1) -> None:
        """Read, check and load a file.

        Args:
            source: path or bytes of the file.
            threads: threads of ONNX Runtime.

        Raises:
            InputError: see `read_onnx`; or ONNX Runtime cannot load it.
        """
        self.file: OnnxFile = read_onnx(source)
        self._session = _session(self.file, threads)

    def predict(self, x: Tensor) -> Logits:
        """Compute the logits of samples, batch by batch.

        Args:
            x: (N, ...) uint8 or float32, in stored units, on any device.

        Returns:
            (N, n_classes) float32.

        Raises:
            InputError: there are no samples, or the file expects another shape.
        """
        if not len(x):
            raise InputError(f"{self.file.source} was given no samples to run on")
        self._check(tuple(x.shape[1:]))
        size = self.file.batch or BATCH
        parts = [self._run(as_input(x[i : i + size].detach().cpu()), size) for i in range(0, len(x), size)]
        return np.concatenate(parts)

    def _run(self, x: Tensor, size: int) -> Logits:
        n = len(x)
        if self.file.batch is not None and n < size:  # a file with a fixed batch size takes no smaller batch
            x = torch.cat([x, x[-1:].expand(size - n, *x.shape[1:])])
        feed = {self.file.input_name: x.contiguous().numpy()}
        try:
            (logits,) = self._session.run([self.file.output_name], feed)
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise InputError(
                f"{self.file.source} does not run on input {tuple(x.shape)}: {first_line(error)}"
            ) from error
        if not isinstance(logits, np.ndarray) or logits.ndim != 2 or len(logits) != len(x):
            raise InputError(f"{self.file.source}: the output of {len(x)} samples must be (batch, n_classes)")
        return logits[:n].astype(np.float32, copy=False)

    def _check(self, shape: tuple[int, ...]) -> None:
        wanted = self.file.input_shape
        if len(wanted) != len(shape) or any(w not in (None, s) for w, s in zip(wanted, shape, strict=True)):
            text = ", ".join("any" if w is None else str(w) for w in wanted)
            raise InputError(f"{self.file.source} takes samples of shape ({text}), the data's are {shape}")


class OnnxModule(nn.Module):
    """An ONNX file as a PyTorch module, without gradient.

    Attributes:
        classifier: the loaded file.
        input_shape: shape of one sample.
    """

    def __init__(self, source: Path | bytes, input_shape: tuple[int, ...], n_classes: int, threads: int = 1) -> None:
        """Load a file and check it against the data.

        Args:
            source: path or bytes of the file.
            input_shape: shape of one sample of the data.
            n_classes: number of classes of the data.
            threads: threads of ONNX Runtime.

        Raises:
            InputError: see `read_onnx`; or the file's shapes differ from the data's.
        """
        super().__init__()
        self.classifier = OnnxClassifier(source, threads)
        self.input_shape = input_shape
        logits = self.classifier.predict(torch.zeros(2, *input_shape))
        if logits.shape[1] != n_classes:
            name = self.classifier.file.source
            raise InputError(f"{name} has {logits.shape[1]} classes, the data has {n_classes}")

    @property
    def parameters_count(self) -> int:
        """Number of weights in the file."""
        return self.classifier.file.parameters

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (B, n_classes) of x (B, *input_shape), on the device of `x`."""
        return torch.from_numpy(self.classifier.predict(x)).to(x.device)


def accuracy(model: OnnxClassifier | bytes, split: Split) -> float:
    """Top-1 accuracy (0..1) on a split, measured through ONNX Runtime.

    Args:
        model: a loaded classifier, or the bytes of a file.
        split: samples and labels.

    Raises:
        InputError: the split is empty, or the model does not fit it.
    """
    found = decisions(model, split)
    return float(np.mean(found.predictions == found.labels))


def decisions(model: OnnxClassifier | bytes, split: Split) -> Decisions:
    """Find the class that ONNX Runtime gives each sample of a split.

    Args:
        model: a loaded classifier, or the bytes of a file.
        split: samples and labels.

    Raises:
        InputError: the split is empty, or the model does not fit it.
    """
    logits = (model if isinstance(model, OnnxClassifier) else OnnxClassifier(model)).predict(split.x)
    return Decisions(split.y.numpy(), logits.argmax(1), logits.shape[1])


def _session(file: OnnxFile, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # failures are raised as exceptions
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # training may use the same cores
    try:
        return onnxruntime.InferenceSession(file.content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise InputError(f"ONNX Runtime cannot load {file.source}: {first_line(error)}") from error
