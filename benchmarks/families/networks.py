"""A residual network and a vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), each large and small."""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.data.dataset import Dataset
from nas_kd.data.prepare import channel_statistics
from nas_kd.engine.numerics import seeded
from nas_kd.models.wrappers import Normalized
from nas_kd.plugins import load

Family = Literal["cnn", "vit"]
SIDE, PATCH = 32, 4  # pixels
CHANNELS: Mapping[str, tuple[int, int, int]] = {"teacher": (32, 64, 128), "student": (8, 16, 32)}
# Width, heads and blocks.
TRANSFORMERS: Mapping[str, tuple[int, int, int]] = {"teacher": (64, 4, 4), "student": (32, 2, 3)}


def network(family: Family, role: str, seed: int, data: Dataset) -> nn.Module:
    """A freshly initialised network: (B, 3, 32, 32) in stored units -> (B, C).

    Args:
        family: cnn: three stages of one residual block on maps of 16, 8 and 4 pixels; vit: 64 patches, a class token.
        role: teacher or student, which says how large it is.
        seed: of its weights.
        data: whose training samples' mean and standard deviation it normalises by.
    """
    mean, std = channel_statistics(data.train.x[:].numpy())
    with seeded(seed, 0):
        if family == "vit":
            return Normalized(VisionTransformer(*TRANSFORMERS[role], data.n_classes), mean, std)
        choices = {"stem_stride": 2}
        for stage, width in enumerate(CHANNELS[role], start=1):
            choices |= {f"width_{stage}": width, f"depth_{stage}": 1, f"kernel_{stage}": 3}
        return Normalized(load("space", "resnet").network(choices, len(mean), data.n_classes), mean, std)


class VisionTransformer(nn.Module):
    """Patches of 4x4 pixels behind a class token, learnt positions, blocks that normalise first."""

    def __init__(self, width: int, heads: int, depth: int, n_classes: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, PATCH, PATCH)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, 1 + (SIDE // PATCH) ** 2, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 32, 32) -> (B, C)."""
        patches = self.embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), patches], dim=1) + self.position
        logits: Tensor = self.head(self.norm(self.blocks(tokens))[:, 0])
        return logits


class Block(nn.Module):
    """Attention, then two linear layers, each beside a shortcut: (B, t, d) -> (B, t, d)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.project, self.mixed = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, t, d) -> (B, t, d)."""
        parts = self.project(self.norm(x)).chunk(3, dim=2)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        x = x + self.mixed(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        out: Tensor = x + self.widen(x)
        return out
