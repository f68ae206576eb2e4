"""A small generator of pictures: noise -> fully connected -> two upsampled convolutions (as in Chen et al. 2019)."""

from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LATENT = 64
WIDTH = 32
SLOPE = 0.2  # of the leaky rectifiers


class Generator(nn.Module):
    """Noise (B, LATENT) -> pictures (B, C, H, W) for any H and W; the batch's channels have mean 0 and deviation 1."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, height, width = shape
        self._sizes = [(ceil(height / part), ceil(width / part)) for part in (4, 2, 1)]
        start = self._sizes[0]
        self.seed = nn.Sequential(
            nn.Linear(LATENT, WIDTH * start[0] * start[1]),
            nn.Unflatten(1, (WIDTH, *start)),
            nn.BatchNorm2d(WIDTH),
        )
        self.middle = _convolution(WIDTH, WIDTH)
        self.fine = _convolution(WIDTH, WIDTH // 2)
        self.picture = nn.Sequential(
            nn.Conv2d(WIDTH // 2, channels, 3, padding=1), nn.Tanh(), nn.BatchNorm2d(channels, affine=False)
        )

    def forward(self, z: Tensor) -> Tensor:
        """(B, LATENT) standard normal -> (B, C, H, W)."""
        x = self.seed(z)
        x = self.middle(F.interpolate(x, size=self._sizes[1]))
        x = self.fine(F.interpolate(x, size=self._sizes[2]))
        return self.picture(x)  # type: ignore[no-any-return]

    def make(self, n: int) -> Tensor:
        """`n` pictures."""
        return self(torch.randn(n, LATENT))  # type: ignore[no-any-return]


def _convolution(c_in: int, c_out: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.LeakyReLU(SLOPE, inplace=True)
    )
