"""Normalisation as part of the network, so that the exported file takes values as they are stored."""

import torch
from torch import Tensor, nn


class Normalized(nn.Module):
    """`body` behind (x - mean) / std: a multiplication and an addition in the exported graph."""

    scale: Tensor
    shift: Tensor

    def __init__(self, body: nn.Module, mean: Tensor, std: Tensor) -> None:
        """`mean`, `std`: (C,) in stored units, for images (B, C, H, W); of one number: for samples of any shape.

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
        """(B, ...) float32 in stored units -> what `body` returns."""
        return self.body(x * self.scale + self.shift)  # type: ignore[no-any-return]
