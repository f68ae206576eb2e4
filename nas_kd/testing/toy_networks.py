"""Tiny networks for trying methods: residual, inverted residual, a transformer on patches, one without feature maps."""

from typing import Literal

import torch
from torch import Tensor, nn

from nas_kd.models.blocks import ConvNet, ConvNorm, InvertedResidual, ResidualBlock

Family = Literal["residual", "inverted", "patches", "tokens"]
SIDE = 8  # of an image, pixels; it is also the number of tokens that are rows of it
PATCH = 2  # pixels


def toy_network(family: Family, n_classes: int, *, large: bool) -> nn.Module:
    """A freshly initialised network: (B, 1, 8, 8) normalised -> (B, n_classes).

    Args:
        family: "residual" and "inverted" have feature maps of 8x8, 4x4 and 2x2 (a small residual one not the last);
            "patches" has 4x4 patches behind a class token, "tokens" has no maps.
        n_classes: length of the logits.
        large: a teacher, wider and deeper than the student of its family.
    """
    if family == "tokens":
        return TokenNet(10 if large else 6, n_classes)
    if family == "patches":
        return PatchNet(12 if large else 8, n_classes, depth=4 if large else 3)
    if family == "residual":
        return _residual(8 if large else 4, n_classes, deeper=large)
    return _inverted(8 if large else 4, n_classes, deeper=large)


def _residual(width: int, n_classes: int, *, deeper: bool) -> nn.Module:
    stages = [[ResidualBlock(width, width, 1, 1)], [ResidualBlock(width, 2 * width, 3, 2)]]
    if deeper:
        stages.append([ResidualBlock(2 * width, 2 * width, 1, 2)])
    return ConvNet(ConvNorm(1, width, 3), stages, None, 2 * width, n_classes)


def _inverted(width: int, n_classes: int, *, deeper: bool) -> nn.Module:
    last = 12 if deeper else 8
    deep = [InvertedResidual(last, last, 2, 3, 1, squeeze=False)] if deeper else []
    stages = [
        [InvertedResidual(width, width, 2, 3, 2, squeeze=False)],
        [InvertedResidual(width, last, 2, 3, 2, squeeze=True), *deep],
    ]
    return ConvNet(ConvNorm(1, width, 3), stages, ConvNorm(last, 2 * last), 2 * last, n_classes)


class TokenNet(nn.Module):
    """A network on tokens, as a user may have one: each row of the image is a token, (B, 8, d)."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.embed = nn.Linear(SIDE, width)
        self.blocks = nn.ModuleList(TokenBlock(width) for _ in range(3))
        self.head = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 8, 8) -> (B, n_classes)."""
        tokens = self.embed(x.squeeze(1))
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.head(tokens.mean(dim=1))
        return logits


class TokenBlock(nn.Module):
    """Mixes tokens, then widths, beside a shortcut: (B, 8, d) -> (B, 8, d)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.mix, self.widen = nn.LayerNorm(width), nn.Linear(SIDE, SIDE), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 8, d) -> (B, 8, d)."""
        y = self.mix(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return x + torch.relu(self.widen(y))


class PatchNet(nn.Module):
    """A vision transformer: 16 patches of 2x2 pixels and a class token in front of them, (B, 17, d)."""

    def __init__(self, width: int, n_classes: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, PATCH, PATCH)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, 1 + (SIDE // PATCH) ** 2, width))
        self.blocks = nn.Sequential(*(AttentionBlock(width) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 8, 8) -> (B, n_classes)."""
        patches = self.embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), patches], dim=1) + self.position
        logits: Tensor = self.head(self.norm(self.blocks(tokens))[:, 0])
        return logits


class AttentionBlock(nn.Module):
    """Attention with two heads, then two linear layers, each beside a shortcut: (B, t, d) -> (B, t, d)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.project, self.mixed = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, t, d) -> (B, t, d)."""
        q, k, v = (part.unflatten(2, (2, -1)).transpose(1, 2) for part in self.project(self.norm(x)).chunk(3, dim=2))
        weights = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(dim=3)
        x = x + self.mixed((weights @ v).transpose(1, 2).flatten(2))
        out: Tensor = x + self.widen(x)
        return out


def with_opinions(network: nn.Module) -> nn.Module:
    """The network in eval mode with large classifier weights: freshly initialised, its logits are all but equal."""
    classifier = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        nn.init.normal_(classifier.weight)
    return network.eval()
