"""Networks as people have them: what a teacher's forward returns, and what it does besides."""

import sys
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES, SHAPE = 10, (1, 8, 8)


class Plain(nn.Module):
    """A convolution and a linear layer; subclasses change what is returned, or what happens on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(8 * 64, CLASSES)

    def logits(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.conv(x).relu().flatten(1))
        return out

    def forward(self, x: Tensor) -> Any:
        return self.logits(x)


class Returns(Plain):
    """Returns whatever a function makes of the logits."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.logits(x))


@dataclass
class Output:
    """As of a library of transformers."""

    loss: Tensor | None
    logits: Tensor
    hidden_states: tuple[Tensor, ...]


@dataclass
class Unnamed:
    features: Tensor
    predictions: Tensor


class Answer:
    """An object whose logits are computed when they are asked for."""

    def __init__(self, values: Tensor) -> None:
        self._values = {"z": values}

    @property
    def logits(self) -> Tensor:
        return self._values["z"]


Named = namedtuple("Named", ["aux", "logits"])


class ManyArguments(Plain):
    def forward(self, x: Tensor, mask: Tensor | None = None, *, features: bool = False, **kwargs: Any) -> Any:
        return (self.logits(x), x) if features or mask is not None else self.logits(x)


class InPlace(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x.mul_(0.5))


class DropoutLeftOn(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(F.dropout(x, 0.3, training=True))


class BatchNormLeftOn(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.norm(x))


class StaysInTraining(Plain):
    """Its `train` forgets to return the module."""

    def train(self, mode: bool = True) -> Any:
        super().train(mode)

    def eval(self) -> Any:
        self.train(False)


class HalfInside(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x.double()).relu().flatten(1))  # type: ignore[no-any-return]


class Lazy(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.head: Any = nn.LazyLinear(CLASSES)


class Weightless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, (2, 5)).flatten(1)


class InferenceOnly(Plain):
    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x)


class TurnsGradientsOff(Plain):
    def forward(self, x: Tensor) -> Tensor:
        torch.set_grad_enabled(False)
        return self.logits(x)


class BatchSizeInPython(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().reshape(len(x), -1))  # type: ignore[no-any-return]


class OneByOne(Plain):
    """Takes a single sample only, as a network traced with one does."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().reshape(1, 8 * 64))  # type: ignore[no-any-return]


class Unexportable(Plain):
    """Bessel functions have no ONNX operator."""

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x + 0 * torch.special.bessel_j0(x))


class Transformer(nn.Module):
    """Attention takes PyTorch's fast path in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 16, 2, stride=2)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 1)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        return self.head(self.encoder(tokens).mean(1))  # type: ignore[no-any-return]


class UncopyableState(Plain):
    """Keeps the result of a computation, which `deepcopy` refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = self.conv.weight * 2


def hooked() -> nn.Module:
    network = Plain()
    network.head.register_forward_hook(lambda _m, _i, output: output + 1)
    return network


def scripted() -> nn.Module:
    return torch.jit.script(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, CLASSES)))


def traced() -> nn.Module:
    return torch.jit.trace(BatchSizeInPython().eval(), torch.zeros(1, *SHAPE))  # type: ignore[no-any-return, no-untyped-call]


def compiled() -> nn.Module:
    return torch.compile(Plain())  # type: ignore[return-value]


def with_a_compiled_part() -> nn.Module:
    network = Plain()
    network.conv = torch.compile(network.conv)  # type: ignore[assignment]
    return network


def half() -> nn.Module:
    return Plain().half()


def double() -> nn.Module:
    return Plain().double()


def double_inside() -> nn.Module:
    return HalfInside().double()


WORKING: dict[str, Callable[[], nn.Module]] = {
    "tuple": lambda: Returns(lambda z: (z, {"features": [z]})),
    "list, logits last": lambda: Returns(lambda z: [z[:, :3], z]),
    "dict": lambda: Returns(lambda z: {"other": z * 2, "logits": z}),
    "dict, one that fits": lambda: Returns(lambda z: {"out": z, "features": z[:, :4]}),
    "nested": lambda: Returns(lambda z: ({"a": z[:, :4]}, [z])),
    "same tensor twice": lambda: Returns(lambda z: {"a": z, "b": z}),
    "dataclass with logits": lambda: Returns(lambda z: Output(None, z, (z * 2,))),
    "dataclass without": lambda: Returns(lambda z: Unnamed(z[:, :4], z)),
    "object with logits": lambda: Returns(Answer),
    "named tuple": lambda: Returns(lambda z: Named(z * 2, z)),
    "(B, C, 1, 1)": lambda: Returns(lambda z: z[:, :, None, None]),
    "(B, 1, C)": lambda: Returns(lambda z: z[:, None]),
    "probabilities": lambda: Returns(lambda z: z.softmax(1)),
    "log-probabilities": lambda: Returns(lambda z: z.log_softmax(1)),
    "many arguments": ManyArguments,
    "changes its input": InPlace,
    "dropout left on": DropoutLeftOn,
    "batch statistics": BatchNormLeftOn,
    "train returns nothing": StaysInTraining,
    "lazy": Lazy,
    "without weights": Weightless,
    "inference mode": InferenceOnly,
    "turns gradients off": TurnsGradientsOff,
    "batch size in Python": BatchSizeInPython,
    "one by one": OneByOne,
    "unexportable": Unexportable,
    "transformer": Transformer,
    "cannot be copied": UncopyableState,
    "hooked": hooked,
    "scripted": scripted,
    "traced": traced,
    "compiled": compiled,
    "with a compiled part": with_a_compiled_part,
    "half precision": half,
    "double precision": double,
    "double precision inside": double_inside,
}

REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "two that fit": (
        lambda: Returns(lambda z: {"a": z, "b": z * 2}),
        r"teacher: returns a dict with \['a'\] \(2, 10\), \['b'\] \(2, 10\): which of them the logits \(2, 10\) are "
        r"cannot be known; return them first in a tuple, or under the key or attribute 'logits'",
    ),
    "nothing": (
        lambda: Returns(lambda z: None),
        r"teacher: must give logits of shape \(2, 10\) for 2 samples, got a NoneType without tensors",
    ),
    "other classes": (
        lambda: Returns(lambda z: torch.cat([z, z], 1)),
        r"teacher: must give logits of shape \(2, 10\) for 2 samples, got \(2, 20\); the data has 10 classes: .*",
    ),
    "maps": (
        lambda: Returns(lambda z: z[:, :, None, None].expand(-1, -1, 2, 2)),
        r"teacher: must give logits of shape \(2, 10\) for 2 samples, got \(2, 10, 2, 2\)",
    ),
    "decisions": (
        lambda: Returns(lambda z: z.argmax(1)),
        r"teacher: must give logits of shape \(2, 10\) for 2 samples, got \(2,\) of torch.int64",
    ),
    "not a number": (
        lambda: Returns(lambda z: z / 0 * 0),
        r"teacher: gives NaN or infinite logits for 64 of 64 samples",
    ),
    "raises": (
        lambda: Returns(lambda z: dict[str, Tensor]()["key"]),
        r"teacher: cannot take samples of shape \(1, 8, 8\): KeyError: 'key'",
    ),
    "exits": (
        lambda: Returns(lambda z: sys.exit(3)),
        r"teacher: cannot take samples of shape \(1, 8, 8\): SystemExit: it called exit\(3\)",
    ),
}


def on_meta() -> nn.Module:
    """A network with a buffer that has no values."""
    network = Plain()
    network.register_buffer("table", torch.zeros(3, device="meta"), persistent=False)
    return network


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """A network with the same weights whenever it is made."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()
