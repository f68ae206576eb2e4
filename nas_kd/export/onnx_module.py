"""A user's ONNX classifier as a PyTorch module: any layout and number type, open sides, logits or probabilities."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.export.onnx_classifier import Logits, OnnxClassifier
from nas_kd.export.onnx_file import OnnxFile, read_onnx
from nas_kd.models.raw_output import OTHER_CLASSES

IMAGE_DIMS = 3
PROBABILITY_OPERATORS = frozenset({"Softmax", "Sigmoid"})  # LogSoftmax gives logits as good as any
SMALLEST = 1e-12  # probability that counts as 0
SUM_ERROR = 0.01  # by which probabilities in half precision may miss 1


class OnnxModule(nn.Module):
    """An ONNX file as a PyTorch module, without gradient.

    Attributes:
        classifier: the loaded file; sides of a sample that it leaves open are closed by the data's.
        input_shape: shape of one sample as the module takes it, (C, H, W) for images.
        file_shape: shape of one sample as the file takes it.
        channels_last: whether the file takes images (H, W, C).
        probabilities: whether the file gives probabilities, which the module turns into logits.
    """

    def __init__(
        self,
        source: Path | bytes | OnnxFile,
        input_shape: tuple[int, ...],
        output_shape: Sequence[int | None] | None,
        threads: int = 1,
        *,
        channels_last: bool | None = None,
    ) -> None:
        """Load a file and check it against the data.

        Args:
            source: path or bytes of the file, or the file as `read_onnx` gave it.
            input_shape: shape of one sample of the data.
            output_shape: of what the file has to give for one sample, (C,) for classes; None in place of a side: any
                length; in place of all: whatever the file gives.
            threads: threads of ONNX Runtime.
            channels_last: whether the file takes images (H, W, C); None: if its shape can only be that.

        Raises:
            InputError: see `read_onnx`; or the file's shapes differ from the data's.
        """
        super().__init__()
        file = source if isinstance(source, OnnxFile) else read_onnx(source)
        self.input_shape = input_shape
        self.channels_last = takes_channels_last(file, input_shape) if channels_last is None else channels_last
        self.file_shape = (*input_shape[1:], input_shape[0]) if self.channels_last else input_shape
        self.probabilities = file.last_operator in PROBABILITY_OPERATORS
        file.require(self.file_shape)
        self.classifier = OnnxClassifier(file.closed(self.file_shape), threads)
        given = self._first_outputs().shape[1:]
        if output_shape is not None and not _fits(given, output_shape):
            raise InputError(f"{file.source} {_mismatch(given, output_shape)}")

    def _first_outputs(self) -> Logits:
        """Outputs of two samples, one by one if the file takes no two at once, whatever it says of its batch."""
        x = torch.zeros(2, *self.input_shape)
        try:
            return self._outputs(x)
        except InputError as error:
            if self.classifier.file.batch is not None:
                raise
            self.classifier.file = replace(self.classifier.file, batch=1)
            try:
                return self._outputs(x)
            except InputError:
                raise error from error.__cause__

    @property
    def parameters_count(self) -> int:
        """Number of weights in the file."""
        return self.classifier.file.parameters

    def recognize_probabilities(self, x: Tensor) -> bool:
        """Decide by samples x (B, ...) whether the file gives probabilities, where its operators do not show it."""
        if not self.probabilities and self.classifier.file.last_operator != "LogSoftmax":
            self.probabilities = are_probabilities(self._outputs(x))
        return self.probabilities

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (B, n_classes) of x (B, *input_shape), on the device of `x`."""
        outputs = self._outputs(x)
        return torch.from_numpy(to_logits(outputs) if self.probabilities else outputs).to(x.device)

    def in_file_layout(self, x: Tensor) -> Tensor:
        """Bring samples x (B, *input_shape) into the order of axes that the file takes."""
        return x.permute(0, 2, 3, 1) if self.channels_last else x

    def _outputs(self, x: Tensor) -> Logits:
        return self.classifier.predict(self.in_file_layout(x))


def _fits(given: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(given) == len(wanted) and all(w in (None, g) for g, w in zip(given, wanted, strict=True))


def _mismatch(given: Sequence[int], wanted: Sequence[int | None]) -> str:
    if len(wanted) == 1:
        return f"has {given[0]} classes, the data has {wanted[0]}{OTHER_CLASSES}"
    sides = ", ".join("any" if side is None else str(side) for side in wanted)
    return f"gives outputs of shape {tuple(given)} a sample, the task wants ({sides})"


def takes_channels_last(file: OnnxFile, shape: tuple[int, ...]) -> bool:
    """Whether a file takes images (C, H, W) as (H, W, C) only.

    Args:
        file: as `read_onnx` gave it.
        shape: of one sample of the data.
    """
    return len(shape) == IMAGE_DIMS and not file.takes(shape) and file.takes((*shape[1:], shape[0]))


def are_probabilities(outputs: Logits) -> bool:
    """Whether rows (B, C) are distributions: none negative, each with a sum of 1."""
    return bool((outputs >= 0).all() and (np.abs(outputs.sum(axis=1) - 1) <= SUM_ERROR).all())


def to_logits(probabilities: Logits) -> Logits:
    """Logits log(p) of probabilities (B, C), whose softmax are the probabilities again; tiny ones are clipped."""
    return np.log(np.maximum(probabilities, np.float32(SMALLEST)))
