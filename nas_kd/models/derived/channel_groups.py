"""Groups of channels that are one and the same wherever they appear, and the layers that can be cut along them."""

from dataclasses import dataclass

from torch import Tensor, nn
from typing_extensions import TypeIs

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
ROOTS = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)


@dataclass(frozen=True)
class Member:
    """A side of a tensor that a group of channels takes a part of.

    Attributes:
        tensor: its name in the state dict.
        axis: the side.
        positions: (P,) places along the side.
        channels: (P,) the group's channel at each of them.
        reads: whether the layer reads these channels, rather than makes or passes them on.
    """

    tensor: str
    axis: int
    positions: Tensor
    channels: Tensor
    reads: bool


@dataclass(frozen=True)
class GroupedSide:
    """A grouped convolution where it reads channels, or makes them: whole groups of it are cut.

    Attributes:
        layer: its path.
        groups: their number.
        makes: whether it makes the channels.
        positions: (P,) of its inputs, or outputs.
        channels: (P,) the group's channel at each of them.
        whole: whether these are all of its inputs, or outputs.
    """

    layer: str
    groups: int
    makes: bool
    positions: Tensor
    channels: Tensor
    whole: bool

    @staticmethod
    def of(
        layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, path: str, positions: Tensor, channels: Tensor, *, makes: bool
    ) -> "GroupedSide":
        """The side of a layer, by places along it and the channels there."""
        whole = len(positions) == (layer.out_channels if makes else layer.in_channels)
        return GroupedSide(path, layer.groups, makes, positions, channels, whole)


@dataclass(frozen=True)
class ChannelGroup:
    """Channels of a network that are one and the same wherever they appear.

    Attributes:
        root: path of the first layer that makes them.
        size: number of channels.
        unit: channels that stay together, next to each other: those of a head, or of a group that is normalised.
        members: all sides of tensors that they are a part of.
        producers: paths of the layers that make them; more than one: a residual stream.
        attention: paths of the attention modules whose heads they are.
        frozen: why they cannot be cut; empty: they can.
        sides: of grouped convolutions that they are; none once the groups on both sides were joined.
    """

    root: str
    size: int
    unit: int
    members: tuple[Member, ...]
    producers: tuple[str, ...]
    attention: tuple[str, ...] = ()
    frozen: str = ""
    sides: tuple[GroupedSide, ...] = ()


def is_depthwise(module: nn.Module) -> bool:
    """Whether a module is a convolution that makes one channel of each."""
    return isinstance(module, CONVOLUTIONS) and module.groups == module.in_channels == module.out_channels > 1


def is_grouped(module: object) -> TypeIs[nn.Conv1d | nn.Conv2d | nn.Conv3d]:
    """Whether a module is a convolution whose groups of outputs each read a group of inputs; not a depthwise one."""
    return isinstance(module, CONVOLUTIONS) and module.groups > 1 and not is_depthwise(module)


def channel_sides(target: nn.Module, *, makes: bool) -> dict[str, int] | None:
    """The side of each tensor on which a layer has the channels that it makes, or reads; None: it cannot be cut."""
    if isinstance(target, NORMS):
        across = isinstance(target, nn.LayerNorm) and len(target.normalized_shape) != 1  # normalises pixels, too
        return None if across else dict.fromkeys(("weight", "bias", "running_mean", "running_var"), 0)
    if isinstance(target, nn.PReLU):
        return {} if target.num_parameters == 1 else {"weight": 0}
    if isinstance(target, nn.Embedding):
        return {"weight": 1}
    if is_depthwise(target) or is_grouped(target):  # each output has the inputs of its group alone
        return {"weight": 0, "bias": 0} if makes or is_depthwise(target) else {}
    if isinstance(target, ROOTS) and getattr(target, "groups", 1) == 1:
        out = 1 if isinstance(target, TRANSPOSED) else 0
        return {"weight": out, "bias": 0} if makes else {"weight": 1 - out}
    has_none = not list(target.parameters(recurse=False)) and not list(target.children())
    return {} if has_none else None
