"""The class head of a network: its last layer, found by running it; and a new one for another number of classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from nas_kd.engine.module_calls import is_closed
from nas_kd.engine.numerics import seeded
from nas_kd.export.eval_mode import evaluating
from nas_kd.models.raw_output import find_logits
from nas_kd.user_code import unchanged_settings

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
Scale = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of each of a network's outputs
INITIAL_STD = 0.01  # of a new head's weights


@dataclass(frozen=True)
class ClassHead:
    """The layers that give a network's logits.

    Attributes:
        layers: one linear layer or 1x1 convolution; several where their outputs are averaged.
        n_classes: of the network as it was given.
        gives_logits: whether the logits are what the one layer gives, with nothing behind it.
        is_new: whether the layers are new ones, in place of the network's own.
    """

    layers: tuple[Layer, ...]
    n_classes: int
    gives_logits: bool
    is_new: bool = False

    def parameters(self) -> list[nn.Parameter]:
        """Weights and biases of its layers."""
        return [p for layer in self.layers for p in layer.parameters()]


def find_head(network: nn.Module, x: Tensor) -> ClassHead | None:
    """Find the last layer of a network; None if it is not one that could be replaced.

    Args:
        network: (B, ...) -> anything with logits in it.
        x: (B, ...) samples, at least two.
    """
    calls: list[tuple[Layer, Any]] = []

    def record(module: Any, _inputs: Any, output: Any) -> None:
        calls.append((module, output))

    handles = [m.register_forward_hook(record) for m in network.modules() if isinstance(m, Layer) and not is_closed(m)]
    try:
        with unchanged_settings(), evaluating(network), torch.no_grad():
            raw = network(x.clone())
        logits = find_logits(raw, len(x), None, "the network")(raw)
    except Exception:  # a user's network may raise anything; what cannot be run has no head that could be used
        return None
    finally:
        for handle in handles:
            handle.remove()
    return _last_layers(calls, logits)


def _last_layers(calls: Sequence[tuple[Layer, Any]], logits: Tensor) -> ClassHead | None:
    """The layer that is called last, with those before it that are like it where it does not give the logits."""
    if not calls:
        return None
    last, output = calls[-1]
    n_classes = logits.shape[1]
    if not _may_be_head(last, n_classes):
        return None
    if output.numel() == logits.numel() and torch.equal(output.reshape(logits.shape).float(), logits.float()):
        return ClassHead((last,), n_classes, gives_logits=True)
    layers: list[Layer] = []
    for layer, _ in reversed(calls):
        if not _may_be_head(layer, n_classes) or layer.weight.shape != last.weight.shape:
            break
        if layer not in layers:
            layers.insert(0, layer)
    return ClassHead(tuple(layers), n_classes, gives_logits=False)


def _may_be_head(layer: Layer, n_classes: int) -> bool:
    kernel = layer.weight.shape[2:]
    return layer.weight.shape[0] == n_classes and kernel.numel() == 1 and getattr(layer, "groups", 1) == 1


def with_new_head(network: nn.Module, head: ClassHead, n_classes: int, scale: Scale | None = None) -> ClassHead:
    """Replace a network's head by one for another number of classes, with random weights that are always the same.

    Args:
        network: that has the head; changed in place.
        head: of the network.
        n_classes: C of the new one.
        scale: of what it is to give, from which it begins; None: 0 and 1.
    """
    with seeded(0):
        new = tuple(_like(layer, n_classes) for layer in head.layers)
    if scale is not None:
        _begin_at(new, *map(torch.tensor, scale))
    for path, module in list(network.named_modules(remove_duplicate=False)):
        if path and module in head.layers:
            parent, _, name = path.rpartition(".")
            setattr(network.get_submodule(parent), name, new[head.layers.index(module)])
    return replace(head, layers=new, is_new=True)


def _like(layer: Layer, n_classes: int) -> Layer:
    made: Layer
    if isinstance(layer, nn.Linear):
        made = nn.Linear(layer.in_features, n_classes)
    else:
        made = type(layer)(layer.in_channels, n_classes, 1)
    nn.init.normal_(made.weight, std=INITIAL_STD)
    assert made.bias is not None
    nn.init.zeros_(made.bias)
    return made


@torch.no_grad()
def _begin_at(layers: Sequence[Layer], mean: Tensor, std: Tensor) -> None:
    for layer in layers:
        layer.weight *= std.reshape(-1, *[1] * (layer.weight.dim() - 1))
        assert layer.bias is not None
        layer.bias.copy_(mean)
