"""Small networks of many kinds, written as their authors would: what derived spaces are tried on."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models.derived.transformers import (
    N_CLASSES,
    GroupedQueryAttention,
    SeparateAttention,
    TextTransformer,
    TorchAttention,
    VisionTransformer,
)

PICTURES, SERIES, TOKENS = (3, 16, 16), (2, 32), (12,)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a projection, or a shortcut that is padded with zeros."""

    def __init__(self, c_in: int, c_out: int, stride: int, *, padded: bool = False) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out)
        self.conv2, self.bn2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out)
        changes = stride > 1 or c_in != c_out
        self.short = nn.Conv2d(c_in, c_out, 1, stride) if changes and not padded else None
        self.stride, self.extra, self.padded = stride, c_out - c_in, padded and changes

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.padded:
            x = F.pad(
                x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2)
            )
        return F.relu(y + (x if self.short is None else self.short(x)))


class ResNet(nn.Module):
    def __init__(self, *, padded: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        widths, blocks, c_in = (16, 24, 32), [], 16
        for stage, width in enumerate(widths):
            row = [ResidualBlock(c_in, width, 2 if stage else 1, padded=padded), ResidualBlock(width, width, 1)]
            blocks.append(nn.Sequential(*row))
            c_in = width
        self.stages, self.fc = nn.Sequential(*blocks), nn.Linear(c_in, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.stages(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, squeeze-excite, projection."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        inner = 4 * c_in
        self.expand = nn.Sequential(nn.Conv2d(c_in, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6())
        self.depthwise = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False)
        self.norm = nn.BatchNorm2d(inner)
        self.squeeze, self.excite = nn.Conv2d(inner, 8, 1), nn.Conv2d(8, inner, 1)
        self.project = nn.Sequential(nn.Conv2d(inner, c_out, 1, bias=False), nn.BatchNorm2d(c_out))
        self.adds = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.norm(self.depthwise(self.expand(x))))
        y = self.project(y * torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1))))))
        return x + y if self.adds else y  # type: ignore[no-any-return]


class MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        rows = [(16, 24, 2), (24, 24, 1), (24, 40, 2), (40, 40, 1)]
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.body = nn.Sequential(*[InvertedResidual(*row) for row in rows])
        self.fc = nn.Linear(40, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]


class DenseNet(nn.Module):
    """Every layer reads what all layers before it made; group norms."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.layers = nn.ModuleList([nn.Conv2d(16 + 8 * i, 8, 3, 1, 1) for i in range(3)])
        self.norm, self.fc = nn.GroupNorm(8, 16), nn.Linear(16 + 24, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(F.relu(self.stem(x)))
        for layer in self.layers:
            x = torch.cat([x, F.relu(layer(x))], 1)
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


class Vgg(nn.Module):
    """Convolutions in a row, flattened maps, two large linear layers."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for c_in, c_out in ((3, 16), (16, 32), (32, 32)):
            layers += [nn.Conv2d(c_in, c_out, 3, 1, 1), nn.PReLU(c_out), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(32 * 4, 64), nn.ReLU(), nn.Linear(64, N_CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))  # type: ignore[no-any-return]


class ResNeXtBlock(nn.Module):
    """Bottleneck whose 3x3 convolution works in groups."""

    def __init__(self, c_in: int, c_inner: int, groups: int, stride: int) -> None:
        super().__init__()
        c_out = 2 * c_inner
        self.conv1, self.bn1 = nn.Conv2d(c_in, c_inner, 1, bias=False), nn.BatchNorm2d(c_inner)
        self.conv2 = nn.Conv2d(c_inner, c_inner, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(c_inner)
        self.conv3, self.bn3 = nn.Conv2d(c_inner, c_out, 1, bias=False), nn.BatchNorm2d(c_out)
        self.short = nn.Conv2d(c_in, c_out, 1, stride) if stride > 1 or c_in != c_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(y)) + self.short(x))


class ResNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1)
        rows = [(16, 16, 4, 1), (32, 16, 4, 1), (32, 32, 8, 2), (64, 32, 8, 1)]
        self.blocks, self.fc = nn.Sequential(*[ResNeXtBlock(*row) for row in rows]), nn.Linear(64, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(F.relu(self.stem(x))).mean((2, 3)))  # type: ignore[no-any-return]


class Multiplied(nn.Module):
    """A depthwise convolution that makes three maps of each, and one in groups that makes more than it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1)
        self.depthwise, self.norm = nn.Conv2d(16, 48, 3, 2, 1, groups=16), nn.BatchNorm2d(48)
        self.pointwise, self.grouped = nn.Conv2d(48, 32, 1), nn.Conv2d(32, 64, 3, 2, 1, groups=8)
        self.fc = nn.Linear(64, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.depthwise(F.relu(self.stem(x)))))
        return self.fc(F.relu(self.grouped(F.relu(self.pointwise(x)))).mean((2, 3)))  # type: ignore[no-any-return]


class Conv1d(nn.Module):
    """A network of series."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(2, 16, 5, 2, 2), nn.BatchNorm1d(16), nn.ReLU(), nn.Conv1d(16, 32, 5, 2, 2), nn.ReLU()
        )
        self.fc = nn.Linear(32, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layers(x).mean(2))  # type: ignore[no-any-return]


class Shuffled(nn.Module):
    """Channels change places between two convolutions, which no graph of layers shows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 1, 1)
        self.third, self.fc = nn.Conv2d(16, 32, 3, 2, 1), nn.Linear(32, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        x = x.reshape(len(x), 4, -1, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
        return self.fc(F.relu(self.third(F.relu(self.second(x)))).mean((2, 3)))  # type: ignore[no-any-return]


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet": (ResNet, PICTURES),
    "mobilenet": (MobileNet, PICTURES),
    "densenet": (DenseNet, PICTURES),
    "vgg": (Vgg, PICTURES),
    "resnext": (ResNeXt, PICTURES),
    "depthwise with multipliers": (Multiplied, PICTURES),
    "vit, fused attention": (VisionTransformer, PICTURES),
    "vit, separate attention": (lambda: VisionTransformer(SeparateAttention), PICTURES),
    "vit, torch's attention": (lambda: VisionTransformer(TorchAttention), PICTURES),
    "vit, large linear layers": (lambda: VisionTransformer(dim=64), PICTURES),
    "vit, grouped queries": (lambda: VisionTransformer(GroupedQueryAttention), PICTURES),
    "conv1d": (Conv1d, SERIES),
    "text": (TextTransformer, TOKENS),
}


def trained_like(network: nn.Module) -> nn.Module:
    """Give norms and biases values that are not those of an untrained network; returns it in evaluation mode."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_(0, 0.3)
            elif tensor.dim() == 1 and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    return network.eval()


def network_of(name: str) -> nn.Module:
    """A network of `NETWORKS` with weights that a training might have left."""
    torch.manual_seed(0)
    return trained_like(NETWORKS[name][0]())


def example_of(shape: tuple[int, ...], n: int = 4) -> Tensor:
    """Samples of a shape: token numbers for one side, else noise."""
    generator = torch.Generator().manual_seed(1)
    if len(shape) == 1:
        return torch.randint(0, 50, (n, *shape), generator=generator)
    return torch.rand(n, *shape, generator=generator)


class SplitUnit(nn.Module):
    """Half of the channels pass, half are convolved; then both change places, as in ShuffleNet v2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.body = nn.Sequential(nn.Conv2d(half, half, 1), nn.ReLU(), nn.Conv2d(half, half, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        passed, changed = x.chunk(2, 1)
        return torch.cat([self.body(changed), passed], 1)


class ShuffleNet(nn.Module):
    """Channels are split and joined again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.units = nn.Conv2d(3, 64, 3, 2, 1), nn.Sequential(*[SplitUnit(64) for _ in range(12)])
        self.last, self.fc = nn.Conv2d(64, 64, 1), nn.Linear(64, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.last(self.units(self.stem(x)))).mean((2, 3)))  # type: ignore[no-any-return]
