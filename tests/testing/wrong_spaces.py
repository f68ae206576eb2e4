"""Search spaces with one fault each, and the fault's name in the message that refuses them."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from optuna.trial import BaseTrial
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.models.blocks import ConvNet, ConvNorm
from nas_kd.models.grid import Dimension, GridSpace
from nas_kd.results.candidate import Architecture

DIMENSIONS = (
    Dimension("width", 4, 32, step=4, log=True),
    Dimension("stages", 1, 3),
    Dimension("depth", 0, 2),
    Dimension("kernel", 1, 3, step=2, conditional_on="depth"),
)


class Right(GridSpace):
    """Plain convolutions: what all the others are but for their fault."""

    name = "mine"
    summary = "plain convolutions: width, stages, depth and kernel of the last"

    def __init__(self) -> None:
        super().__init__(DIMENSIONS)

    def network(self, choices: Mapping[str, int], channels: int, n_classes: int) -> nn.Module:
        width = choices["width"]
        stages = [[ConvNorm(width, width, 3, stride=2)] for _ in range(choices["stages"])]
        deep = [ConvNorm(width, width, choices["kernel"]) for _ in range(choices["depth"])]
        return ConvNet(ConvNorm(channels, width, 3), [*stages, deep], None, width, n_classes)

    def describe(self, architecture: Architecture) -> str:
        return "{stages} stages, {width} wide".format(**self.checked(architecture))


class NoSummary(Right):
    summary = ""


class LadderDraws(Right):
    """Builds networks to count their weights, without putting torch's generator back."""

    def size_ladder(self, n: int) -> list[Architecture]:
        ladder = super().size_ladder(n)
        return sorted(ladder, key=lambda a: sum(p.numel() for p in self.build(a, (1, 8, 8), 5).parameters()))


class DependentDimensions(Right):
    def suggest(self, trial: BaseTrial, prefix: str = "") -> Architecture:
        choices = {d.name: d.suggest(trial, prefix) for d in self.dimensions if d.name != "kernel"}
        kernel = self.dimensions[3].suggest(trial, prefix) if choices["depth"] else 1
        return self.canonical({**choices, "kernel": kernel})


class DependentRange(Right):
    def suggest(self, trial: BaseTrial, prefix: str = "") -> Architecture:
        choices = {d.name: d.suggest(trial, prefix) for d in self.dimensions if d.name != "stages"}
        stages = trial.suggest_int(f"{prefix}stages", 1, 2 if choices["depth"] else 3)
        return self.canonical({**choices, "stages": stages})


class NoPrefix(Right):
    def suggest(self, trial: BaseTrial, prefix: str = "") -> Architecture:
        return super().suggest(trial, "")


class AnotherName(Right):
    def canonical(self, choices: Mapping[str, int]) -> Architecture:
        return Architecture("yours", super().canonical(choices).choices)


class NotCanonical(Right):
    """Sets what has no effect to its second value, and so takes its own architectures for others."""

    def canonical(self, choices: Mapping[str, int]) -> Architecture:
        architecture = super().canonical(choices)
        return replace(architecture, choices={**architecture.choices, "stages": 4 - int(choices["stages"])})


class OneArchitecture(Right):
    def canonical(self, choices: Mapping[str, int]) -> Architecture:
        return Architecture(self.name, {d.name: d.low for d in self.dimensions})


class TwoNames(Right):
    """Leaves the kernel of no layer as it was drawn."""

    def canonical(self, choices: Mapping[str, int]) -> Architecture:
        return Architecture(self.name, dict(choices))


class DescribesAtLength(Right):
    def describe(self, architecture: Architecture) -> str:
        return super().describe(architecture).replace(", ", "\n")


class CountsWrongly(Right):
    def cardinality(self) -> int:
        return 10**6


class FallingLadder(Right):
    def size_ladder(self, n: int) -> list[Architecture]:
        return super().size_ladder(n)[::-1]


class ShortLadder(Right):
    def size_ladder(self, n: int) -> list[Architecture]:
        return super().size_ladder(n)[: max(2, n - 1)]


class UnevenLadder(Right):
    def size_ladder(self, n: int) -> list[Architecture]:
        ladder = super().size_ladder(3 * n)
        return [*ladder[: n - 1], ladder[-1]]


class LadderWithoutTheEnds(Right):
    def size_ladder(self, n: int) -> list[Architecture]:
        return super().size_ladder(n + 2)[1:-1]


class FixedSeed(Right):
    def build(self, architecture: Architecture, input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
        torch.manual_seed(0)
        return super().build(architecture, input_shape, n_classes)


class NoSeed(Right):
    def build(self, architecture: Architecture, input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
        network = super().build(architecture, input_shape, n_classes)
        generator = torch.Generator()
        generator.seed()
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.1, generator=generator)
        return network


class DrawsFromNumPy(Right):
    """In `build` alone: the size ladder is that of the right space."""

    def size_ladder(self, n: int) -> list[Architecture]:
        return Right().size_ladder(n)

    def build(self, architecture: Architecture, input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
        network = super().build(architecture, input_shape, n_classes)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(float(np.random.rand()))
        return network


class Wrapped(nn.Module):
    """A network with something done to what it returns."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.body(x))

    def after(self, logits: Tensor) -> Tensor:
        return logits


class Wrapping(Right):
    wrap: type[Wrapped]

    def network(self, choices: Mapping[str, int], channels: int, n_classes: int) -> nn.Module:
        return self.wrap(super().network(choices, channels, n_classes))


class Squeezed(Wrapped):
    def after(self, logits: Tensor) -> Tensor:
        return logits.squeeze(0)


class DropsTheBatch(Wrapping):
    """Batches of one lose their first axis."""

    wrap = Squeezed


class FixedSide(Right):
    """A classifier on all pixels of an image of 8x8."""

    def network(self, choices: Mapping[str, int], channels: int, n_classes: int) -> nn.Module:
        width = choices["width"]
        stem = nn.Sequential(ConvNorm(channels, width, 3), *self._blocks(choices))
        return nn.Sequential(stem, nn.Flatten(), nn.Linear(64 * width, n_classes))

    def _blocks(self, choices: Mapping[str, int]) -> list[nn.Module]:
        widths = [choices["width"]] * (choices["stages"] - 1 + choices["depth"])
        kernels = [1] * (choices["stages"] - 1) + [choices["kernel"]] * choices["depth"]
        return [ConvNorm(w, w, k) for w, k in zip(widths, kernels, strict=True)]


class WithUnused(Wrapped):
    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.unused = nn.Linear(3, 3)


class UnusedLayer(Wrapping):
    wrap = WithUnused


class WithZeros(Wrapped):
    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.left, self.right = nn.Parameter(torch.zeros(5, 5)), nn.Parameter(torch.zeros(5, 5))

    def after(self, logits: Tensor) -> Tensor:
        return logits + logits @ self.left @ self.right


class DeadLayers(Wrapping):
    """Two factors that start at 0: each one's gradient is the other."""

    wrap = WithZeros


class NotNested(Right):
    """Names its layers by their width, so that no weights fit."""

    def network(self, choices: Mapping[str, int], channels: int, n_classes: int) -> nn.Module:
        network = super().network(choices, channels, n_classes)
        return nn.Sequential(OrderedDict({f"of_width_{choices['width']}": network}))


class AcceptsAnything(Right):
    def checked(self, architecture: Architecture) -> dict[str, int]:
        return {d.name: int(architecture.choices.get(d.name, d.low)) for d in self.dimensions if d.name}


class FailsUnclearly(Right):
    def checked(self, architecture: Architecture) -> dict[str, int]:
        if architecture.space != self.name:
            raise InputError("an architecture of another space")
        return {d.name: d.values[d.values.index(architecture.choices[d.name])] for d in self.dimensions}


class AcceptsAnyShape(Right):
    def build(self, architecture: Architecture, input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
        return self.network(self.checked(architecture), input_shape[0], n_classes)


class AcceptsNoPixels(AcceptsAnyShape):
    def build(self, architecture: Architecture, input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
        if len(input_shape) != 3:
            raise InputError(f"space 'mine' needs images, the data has shape {input_shape}")
        return super().build(architecture, input_shape, n_classes)


class Centred(Wrapped):
    def after(self, logits: Tensor) -> Tensor:
        return logits - logits.mean(dim=0, keepdim=True) / 2


class SeesTheBatch(Wrapping):
    """Logits depend on what else is in the batch."""

    wrap = Centred


# The space, the rule that it breaks (its first words) and what is seen.
WRONG: list[tuple[type[Right], str, str]] = [
    (NoSummary, "The space has a name and a summary", "summary must be one line of text, got ''"),
    (LadderDraws, "Drawing, counting, describing", "the global generator of torch has moved"),
    (DependentDimensions, "Every draw has the same dimensions", "student.kernel is "),
    (DependentRange, "Every draw has the same dimensions", "student.stages is IntDistribution(high="),
    (NoPrefix, "Every draw has the same dimensions", "given the prefix 'student.', the parameter is called 'width'"),
    (AnotherName, "An architecture names its space", "the architecture's space is 'yours'"),
    (NotCanonical, "An architecture names its space", "is drawn again as"),
    (OneArchitecture, "Random draws give different", "1 different ones in 40 draws of "),
    (TwoNames, "Two architectures are two networks", "kernel makes no difference between"),
    (DescribesAtLength, "A description is one line", "describe must be one line of text, got "),
    (CountsWrongly, "The cardinality is", "cardinality is 1000000; "),
    (FallingLadder, "The size ladder climbs", "weights follows one of"),
    (ShortLadder, "The size ladder climbs", "size_ladder(4) has 3 networks"),
    (UnevenLadder, "The size ladder climbs", "weights is more than two of 3 even steps"),
    (LadderWithoutTheEnds, "The size ladder lies in the space", "weights, draws "),
    (FixedSeed, "Initial weights follow", "two seeds give one network"),
    (NoSeed, "Initial weights follow", "differs between two networks of one seed"),
    (DrawsFromNumPy, "Initial weights follow", "the global generator of NumPy has moved"),
    (DropsTheBatch, "Every network gives finite logits", "a network gives (5,), not (1, 5), for a batch (1, 1, 8, 8)"),
    (FixedSide, "Every network gives finite logits", "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
    (UnusedLayer, "Every network trains", "unused.weight gets no gradient"),
    (DeadLayers, "Three steps of training", "left stays as it was"),
    (NotNested, "Every network of the size ladder is a leading part", "not a sub-network: the larger network has no"),
    (AcceptsAnything, "An architecture with a missing", "given an architecture with another space, build accepts it"),
    (FailsUnclearly, "An architecture with a missing", "given an architecture with no width, build raises KeyError"),
    (AcceptsAnyShape, "An input shape is either taken", "shape (64,), build accepts it, and the network raises"),
    (AcceptsNoPixels, "An input shape is either taken", "given samples of shape (3, 0, 8), build accepts it"),
    (SeesTheBatch, "The exported ONNX file", "depend on the size of the batch"),
]
