"""Precisions: how a trained network becomes the file that is deployed. One file in `precisions/` adds one."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from nas_kd.config.options import Calibration
from nas_kd.export.verify import Parity
from nas_kd.plugins import load
from nas_kd.results.candidate import IntegerScheme


@dataclass(frozen=True)
class QuantizationInputs:
    """What files are made with.

    `samples`: (N, *input_shape), of the training split without augmentation, in stored units: ranges of activations are
    learnt from them. `scheme`: types of activations and weights on the device.
    """

    input_shape: tuple[int, ...]
    samples: Tensor
    calibration: Calibration = "minmax"
    scheme: IntegerScheme = "u8s8"


@dataclass(frozen=True)
class PrecisionFile:
    """A deployable file. `notes`: what a user has to know of it, such as layers that were kept in fp32."""

    content: bytes
    notes: tuple[str, ...] = ()


class PrecisionFormat(Protocol):
    """A plug-in. A file's size and speed depend on the architecture alone, not on the values of the weights.

    `aware`: training knows of it, `prepare` gives the network that is trained; else the trained weights are those of
    fp32. `exact`: the file says what the trained network says, but for the order of summation.
    """

    name: str
    summary: str
    aware: bool
    exact: bool

    def prepare(self, model: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
        """What is trained in the place of `model`, with its weights: the model itself where training is unaware."""

    def make(self, model: nn.Module, quantising: QuantizationInputs) -> PrecisionFile:
        """The file of a network, trained or not, as `prepare` gave it or a sum of such; equal inputs give equal bytes.

        Raises:
            TrialError: there is no such file.
        """

    def verify(self, content: bytes, model: nn.Module, x: Tensor) -> Parity:
        """Compare the file with what it was made from, on samples (N, ...) in stored units.

        Raises:
            TrialError: the file is not valid, its logits are not finite, or it differs by more than this precision may.
        """


def load_precision(name: str) -> PrecisionFormat:
    """The precision of this name.

    Raises:
        InputError: there is none.
    """
    found: PrecisionFormat = load("precision", name)
    return found
