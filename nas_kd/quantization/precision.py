"""The interface of precisions: how a trained network becomes the deployed file. A file in `precisions/` adds one."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from nas_kd.config.options import Calibration
from nas_kd.data.samples import Samples
from nas_kd.export.verify import Parity
from nas_kd.plugins import load
from nas_kd.results.candidate import IntegerScheme
from nas_kd.tasks.base import Task
from nas_kd.tasks.classification import CLASSIFICATION


@dataclass(frozen=True)
class QuantizationInputs:
    """Inputs of file creation besides the network.

    Attributes:
        input_shape: shape of one sample.
        samples: (N, *input_shape) training samples without augmentation, in stored units, for ranges of activations.
        calibration: how ranges follow from the samples.
        scheme: integer types of activations and weights on the device.
        output: name of the file's output.
        output_axes: number of its axes, that of the batch among them.
    """

    input_shape: tuple[int, ...]
    samples: Tensor
    calibration: Calibration = "minmax"
    scheme: IntegerScheme = "u8s8"
    output: str = "logits"
    output_axes: int = 2


@dataclass(frozen=True)
class PrecisionFile:
    """A deployable file, with notes for the user such as layers that stayed in fp32."""

    content: bytes
    notes: tuple[str, ...] = ()


class PrecisionFormat(Protocol):
    """A precision plug-in; size and speed of its files depend on the architecture alone, not on weight values.

    Attributes:
        name: the name in configs (`search.precisions`).
        summary: one line for `nas-kd list precisions`.
        quantization_aware: whether training rounds too, on the network that `prepare` returns; else the weights are
            those of fp32.
        exact: whether file and trained network differ only in the order of summation.
    """

    name: str
    summary: str
    quantization_aware: bool
    exact: bool

    def prepare(self, model: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """Return the network to train: `model` itself, or a quantisation-aware wrapper that shares its weights.

        Args:
            model: the network.
            input_shape: shape of one sample.
        """

    def make(self, model: nn.Module, inputs: QuantizationInputs) -> PrecisionFile:
        """Make the file of a network; equal inputs give equal bytes.

        Args:
            model: what `prepare` returned, or a sum of such networks; trained or not.
            inputs: samples and settings.

        Raises:
            TrialError: the network cannot be exported in this precision.
        """

    def verify(self, content: bytes, model: nn.Module, x: Samples, task: Task = CLASSIFICATION) -> Parity:
        """Compare a file with the network it was made from.

        Args:
            content: the file.
            model: the network.
            x: (N, ...) samples in stored units.
            task: says what the network decides.

        Raises:
            TrialError: the file is not valid, its logits are not finite, or it differs by more than this precision
                explains.
        """


@runtime_checkable
class FilePrecision(PrecisionFormat, Protocol):
    """A precision whose files are made of fp32 files, whatever network those came from: nothing is trained for it."""

    def convert(self, content: bytes, inputs: QuantizationInputs) -> PrecisionFile:
        """Make the file of an fp32 file; equal inputs give equal bytes.

        Args:
            content: the fp32 file.
            inputs: samples as the file takes them, and settings.

        Raises:
            TrialError: it cannot be converted.
        """


def load_precision(name: str) -> PrecisionFormat:
    """Find the precision of this name.

    Raises:
        InputError: there is no such precision.
    """
    found: PrecisionFormat = load("precision", name)
    return found
