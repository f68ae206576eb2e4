"""Large linear layers, whose rank can be a choice: such a layer becomes two thin ones."""

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nas_kd.models.derived.channel_groups import ROOTS
from nas_kd.models.derived.cutting import replace_module
from nas_kd.models.derived.observe import Call, resolution
from nas_kd.user_code import describe_error

LARGE = 64  # outputs and inputs of a layer, from which it may become two


@dataclass(frozen=True)
class LargeLayer:
    """A linear layer with `LARGE` outputs and inputs, or more.

    Attributes:
        path: of it.
        weights_share: its share of the network's weights, 0..1.
        macs_share: of the network's multiply-adds, 0..1.
        fixed: why its rank cannot be a choice; empty: it can.
    """

    path: str
    weights_share: float
    macs_share: float
    fixed: str = ""


def find_large_layers(
    model: nn.Module, calls: Mapping[str, Call], tied: Collection[str], x: Tensor, whole: Tensor
) -> list[LargeLayer]:
    """Find the large linear layers of a network, and try whether other modules can be in their places.

    Args:
        model: in evaluation mode; not changed.
        calls: of its modules.
        tied: names of tensors that are used in several places.
        x: (B, ...) what it takes.
        whole: (B, C) what it gives then.

    Returns:
        The layers, in the order of the network.
    """
    weights = sum(parameter.numel() for parameter in model.parameters())
    macs = {path: _macs(model.get_submodule(path), call) for path, call in calls.items()}
    found = []
    for path in sorted(calls, key=lambda path: calls[path].order):
        layer = model.get_submodule(path)
        if path and type(layer) is nn.Linear and min(layer.weight.shape) >= LARGE:
            shares = layer.weight.numel() / weights, macs[path] / sum(macs.values())
            found.append(LargeLayer(path, *shares, _reason(path, layer, tied)))
    free = [layer.path for layer in found if not layer.fixed]
    if free and _fault(model, free, x, whole):
        found = [
            layer if layer.fixed else replace(layer, fixed=_fault(model, [layer.path], x, whole)) for layer in found
        ]
    return found


def _macs(layer: nn.Module, call: Call) -> int:
    weight = getattr(layer, "weight", None)
    return (
        call.calls * resolution(layer, call) * weight.numel() if isinstance(layer, ROOTS) and weight is not None else 0
    )


def _reason(path: str, layer: nn.Linear, tied: Collection[str]) -> str:
    if f"{path}.weight" in tied:
        return "its weight is used in several places"
    parametrised = {name for name, _ in layer.named_parameters()} - {"weight", "bias"}
    return "it is parametrised" if parametrised else ""


def _fault(model: nn.Module, paths: Sequence[str], x: Tensor, whole: Tensor) -> str:
    """What is wrong with other modules in the place of these layers, in a few words; empty: nothing."""
    tried = deepcopy(model)
    for path in paths:
        replace_module(tried, path, nn.Sequential(nn.Identity(), tried.get_submodule(path)))
    try:
        with torch.no_grad():
            result = tried(x)
    except Exception as error:
        return f"as two layers it fails ({describe_error(error)})"
    return "" if torch.allclose(result, whole, 1e-4, 1e-5) else "as two layers it gives something else"
