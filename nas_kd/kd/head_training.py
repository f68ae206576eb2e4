"""A network's head on the outputs of the layers before it: these are computed once, as they do not change."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas_kd.data.dataset import Dataset, Split, as_input
from nas_kd.engine.numerics import Numerics
from nas_kd.export.eval_mode import evaluating
from nas_kd.kd.class_head import Layer
from nas_kd.tasks.scaled_outputs import ScaledOutputs

BATCH = 64
SMALLEST_STD = 1e-4  # of the largest one: what varies less is left in its own units


@dataclass(frozen=True)
class HeadFeatures:
    """What a head is given for the samples of a data set, without augmentation.

    They are standardised, so that one learning rate suits the features of any network; and so is what the head is to
    give, where it has a unit.

    Attributes:
        train: x (N, D) float32, standardised; y as in the data.
        val: the same of validation.
        mean: (D,) of the training samples before; zeros for a head without biases.
        std: (D,) standard deviation before.
        output_mean: (C,) of what the head is to give; zeros where it has no unit.
        output_std: (C,) its standard deviation; ones there.
    """

    train: Split
    val: Split
    mean: Tensor
    std: Tensor
    output_mean: Tensor
    output_std: Tensor

    @staticmethod
    def of(
        network: nn.Module,
        layer: Layer,
        data: Dataset,
        numerics: Numerics,
        on_progress: Callable[[int, int], None],
    ) -> "HeadFeatures":
        """Compute them.

        Args:
            network: (B, ...) in stored units -> logits, in the memory layout of `numerics`.
            layer: its head, which is given (B, D) or (B, D, 1, 1).
            data: samples.
            numerics: memory layout.
            on_progress: receives the number of samples that are done, and of all.
        """
        total = len(data.train) + len(data.val)
        train = _inputs_of(layer, network, data.train, numerics, lambda n: on_progress(n, total))
        val = _inputs_of(layer, network, data.val, numerics, lambda n: on_progress(len(data.train) + n, total))
        std = train.std(dim=0)
        std = torch.where(std > SMALLEST_STD * std.max(), std, torch.ones(()))
        mean = torch.zeros(train.shape[1]) if layer.bias is None else train.mean(dim=0)
        output_mean, output_std = torch.zeros(data.n_classes), torch.ones(data.n_classes)
        if layer.bias is not None and (scale := data.task.output_scale) is not None:
            output_mean, output_std = map(torch.tensor, scale)
        return HeadFeatures(
            Split((train - mean) / std, data.train.y),
            Split((val - mean) / std, data.val.y),
            mean,
            std,
            output_mean,
            output_std,
        )

    @torch.no_grad()
    def standardized_head(self, layer: Layer) -> nn.Linear:
        """The head as a layer that takes standardised features, and gives what `network` turns into outputs."""
        weight = layer.weight.flatten(1).float() / self.output_std[:, None]
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=layer.bias is not None)
        linear.weight.copy_(weight * self.std)
        if layer.bias is not None:
            linear.bias.copy_((layer.bias - self.output_mean) / self.output_std + weight @ self.mean)
        return linear

    def network(self, linear: nn.Linear) -> nn.Module:
        """The network that is trained in the head's place: such a layer, and the unit of its outputs."""
        if not self.output_mean.any() and bool((self.output_std == 1).all()):
            return linear
        return ScaledOutputs(linear, self.output_mean.tolist(), self.output_std.tolist())

    @torch.no_grad()
    def write_back(self, linear: nn.Linear, layer: Layer) -> None:
        """Give the head the weights that such a layer has."""
        weight = linear.weight / self.std * self.output_std[:, None]
        layer.weight.copy_(weight.reshape(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.copy_(linear.bias * self.output_std + self.output_mean - weight @ self.mean)


def _inputs_of(
    layer: nn.Module, network: nn.Module, split: Split, numerics: Numerics, on_progress: Callable[[int], None]
) -> Tensor:
    """What a layer is given for the samples of a split, (N, D) float32."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0].detach().float().flatten(1).clone())

    handle = layer.register_forward_pre_hook(keep)
    try:
        with evaluating(network):
            for start in range(0, len(split), BATCH):
                network(numerics.to_layout(as_input(split.x[start : start + BATCH])))
                on_progress(min(start + BATCH, len(split)))
    finally:
        handle.remove()
    return torch.cat(seen)
