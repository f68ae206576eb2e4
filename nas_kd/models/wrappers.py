"""Wrappers that change what a network takes or returns: normalised, resized or contiguous inputs, summed logits."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Normalized(nn.Module):
    """A network behind (x - mean) / std, so that the exported file takes values as they are stored.

    In the exported graph the normalisation is one multiplication and one addition.

    Attributes:
        scale: 1 / std, broadcastable to the input.
        shift: -mean / std, broadcastable to the input.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, body: nn.Module, mean: Tensor, std: Tensor) -> None:
        """Wrap a network that takes normalised samples.

        Args:
            body: the network.
            mean: (C,) in stored units, for images (B, C, H, W); (1,) for samples of any shape.
            std: standard deviation, of the same shape and unit.

        Raises:
            ValueError: `mean` and `std` differ in shape, or `std` is not positive and finite.
        """
        super().__init__()
        if mean.shape != std.shape or mean.ndim != 1:
            raise ValueError(f"mean and std must both be (C,), got {tuple(mean.shape)} and {tuple(std.shape)}")
        if not bool(torch.isfinite(mean).all() and torch.isfinite(std).all() and (std > 0).all()):
            raise ValueError(f"mean must be finite, std finite and > 0; got {mean.tolist()} and {std.tolist()}")
        self.body = body
        shape = (-1, 1, 1) if mean.numel() > 1 else (1,)
        exact_mean, exact_std = mean.double(), std.double()
        self.register_buffer("scale", (1 / exact_std).float().reshape(shape))
        self.register_buffer("shift", (-exact_mean / exact_std).float().reshape(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, ...) float32, in stored units, and return what `body` returns."""
        return self.body(x * self.scale + self.shift)  # type: ignore[no-any-return]


class Resized(nn.Module):
    """A network behind bilinear interpolation to its own resolution, with anti-aliasing where a side shrinks.

    Pixels are areas (`align_corners=False`), as in Pillow and torchvision. Exporters know anti-aliasing as a product
    with matrices only.

    Attributes:
        size: height and width that the network takes.
    """

    rows: Tensor | None  # (height, given height)
    columns: Tensor | None  # (given width, width)

    def __init__(self, body: nn.Module, given: tuple[int, int], size: tuple[int, int]) -> None:
        """Wrap a network.

        Args:
            body: takes images of `size`.
            given: height and width of the images that it is shown.
            size: height and width.
        """
        super().__init__()
        self.body, self.size = body, size
        shrinks = size[0] < given[0] or size[1] < given[1]
        self.register_buffer("rows", _interpolation(given[0], size[0]) if shrinks else None, persistent=False)
        self.register_buffer("columns", _interpolation(given[1], size[1]).T if shrinks else None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Resize images x (B, C, H, W) and return what `body` returns."""
        if self.rows is None or self.columns is None:
            return self.body(F.interpolate(x, self.size, mode="bilinear", align_corners=False))  # type: ignore[no-any-return]
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would take bits off the pixels
            resized = self.rows @ x @ self.columns
        return self.body(resized)  # type: ignore[no-any-return]


def _interpolation(given: int, wanted: int) -> Tensor:
    """The matrix (wanted, given) that resizes a row of pixels."""
    each = torch.eye(given).reshape(1, 1, given, given)
    return F.interpolate(each, (wanted, given), mode="bilinear", align_corners=False, antialias=True)[0, 0].contiguous()


class RepeatedChannels(nn.Module):
    """A network of colour images that is shown grey ones: their channel is repeated."""

    def __init__(self, body: nn.Module, channels: int) -> None:
        """Wrap a network that takes this number of channels."""
        super().__init__()
        self.body, self.channels = body, channels

    def forward(self, x: Tensor) -> Tensor:
        """Repeat the channel of x (B, 1, H, W) and return what `body` returns."""
        return self.body(x.repeat(1, self.channels, 1, 1))  # type: ignore[no-any-return]


class ContiguousLayout(nn.Module):
    """A network that cannot run channels last, as one that calls `view`: its inputs and weights stay contiguous."""

    def __init__(self, body: nn.Module) -> None:
        """Wrap a network, whose weights are made contiguous."""
        super().__init__()
        self.body = body
        self._make_contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """Run `body` on x (B, ...), in whatever memory layout x is."""
        exporting = torch.onnx.is_in_onnx_export()  # a file has no memory layouts
        return self.body(x if exporting else _contiguous(x))  # type: ignore[no-any-return]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ContiguousLayout":
        """Follow `to`, `float` and the like in everything but the memory layout."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._make_contiguous()
        return self

    def _make_contiguous(self) -> None:
        for tensor in (*self.parameters(), *self.buffers()):
            tensor.data = _contiguous(tensor.data)


def _contiguous(x: Tensor) -> Tensor:
    """Copy a tensor: `contiguous` would leave images of one channel in a layout that is channels last as well."""
    return x.clone(memory_format=torch.contiguous_format)


class SummedLogits(nn.Module):
    """Several networks deployed as one, which returns the sum of their logits."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        """Join networks that take the same input (B, ...) and return logits (B, C)."""
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """Run every member on x (B, ...) and add up their logits: (B, C)."""
        logits: Tensor = self.members[0](x)
        for member in list(self.members)[1:]:
            logits = logits + member(x)
        return logits


def sum_networks(members: Sequence[nn.Module]) -> nn.Module:
    """One network that returns the sum of the members' logits; a single member is returned as it is."""
    return members[0] if len(members) == 1 else SummedLogits(members)
