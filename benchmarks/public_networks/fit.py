"""Fit a public network to pictures of plain colours in a moment, and write its weights and the pictures.

    python -m benchmarks.public_networks.fit FOLDER N_CLASSES

FOLDER has `network.py` with `make()`. Batch statistics come from a few forward passes, and only the last layer is
fitted, by least squares on what enters it: seconds even for a network whose training would take hours.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

SIDE, NOISE = 32, 12
PER_CLASS = {"train": 12, "val": 4, "test": 4}
FEW = 4  # share of them by which networks are tried that take long


def colours(n_classes: int, part: int = 1) -> dict[str, np.ndarray[Any, Any]]:
    """Noisy pictures of one colour a class; one in `part` of them."""
    rng = np.random.default_rng(0)
    levels = int(np.ceil(n_classes ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.linspace(40, 215, levels)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n_classes]
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for split, count in PER_CLASS.items():
        y = np.repeat(np.arange(n_classes), count // part)
        noise = rng.normal(0, NOISE, (len(y), 3, SIDE, SIDE))
        arrays[f"x_{split}"] = np.clip(grid[y][:, :, None, None] + noise, 0, 255).astype(np.uint8)
        arrays[f"y_{split}"] = y
    return arrays


def logits_of(output: Any) -> Tensor:
    """The logits of a network that may return more than them."""
    found = output[0] if isinstance(output, tuple) else output
    assert isinstance(found, Tensor)
    return found


def last_layer(net: nn.Module, n_classes: int) -> nn.Module:
    """The last layer that has one output a class."""
    layers = [
        m
        for m in net.modules()
        if getattr(m, "out_features", None) == n_classes or getattr(m, "out_channels", None) == n_classes
    ]
    return layers[-1]


@torch.no_grad()
def fit(net: nn.Module, x: Tensor, y: Tensor, n_classes: int) -> float:
    """Set batch statistics and the last layer; returns the accuracy on the same pictures."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
            if module.weight is not None and not module.weight.any():
                module.weight.fill_(1.0)  # a branch that starts switched off would stay so
    net.train()
    parts = torch.randperm(len(x), generator=torch.Generator().manual_seed(0)).chunk(-(-len(x) // 32))
    for rows in parts[:4]:
        net(x[rows])
    net.eval()
    layer, seen = last_layer(net, n_classes), list[Tensor]()
    handle = layer.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0].detach().clone()))
    for rows in torch.arange(len(x)).chunk(-(-len(x) // 32)):
        net(x[rows])
    handle.remove()
    features = torch.cat(seen)
    if features.dim() > 2:  # a convolution, or a layer on tokens
        axes = tuple(range(2, features.dim())) if isinstance(layer, nn.Conv2d) else tuple(range(1, features.dim() - 1))
        features = features.mean(axes)
    features = features.double()
    middle, spread = features.mean(0), features.std(0).clamp(min=1e-12)
    scaled = torch.cat([(features - middle) / spread, torch.ones(len(x), 1, dtype=torch.float64)], 1)
    wanted = 8.0 * nn.functional.one_hot(y, n_classes).double()
    ridge = len(x) * torch.eye(scaled.shape[1], dtype=torch.float64)
    solved = torch.linalg.solve(scaled.T @ scaled + ridge, scaled.T @ wanted)
    weight = solved[:-1].T / spread
    layer.weight.copy_(weight.reshape(layer.weight.shape).float())  # type: ignore[operator]
    if isinstance(layer.bias, Tensor):
        layer.bias.copy_((solved[-1] - weight @ middle).float())
    right = [logits_of(net(x[rows])).argmax(1) == y[rows] for rows in torch.arange(len(x)).chunk(-(-len(x) // 32))]
    return float(torch.cat(right).float().mean())


def main() -> int:
    """Fit the network of a folder, and write `network.safetensors` and `colours.npz` there."""
    folder, n_classes = Path(sys.argv[1]), int(sys.argv[2])
    sys.path.insert(0, str(folder))
    torch.manual_seed(0)
    net = importlib.import_module("network").make()
    arrays = colours(n_classes, FEW if "--few" in sys.argv else 1)
    accuracy = fit(net, torch.tensor(arrays["x_train"]) / 255, torch.tensor(arrays["y_train"]), n_classes)
    save_file({k: v.clone().contiguous() for k, v in net.state_dict().items()}, folder / "network.safetensors")
    np.savez(folder / "colours.npz", allow_pickle=False, **arrays)
    print(f"{accuracy:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
