"""Tools of the data-free methods: an image bank, and a teacher that judges images and passes gradients back to them.

All they know of the training split is the mean and standard deviation of each channel (which the student's file holds
anyway), the samples' shape and the number of classes; and the teacher. No training sample is ever read.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.methods.base import Batch, MethodContext, Outputs

IMAGE_DIMS = 4  # (B, C, H, W)
BANK_BYTES = 64 * 2**20
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class CriticOutput(NamedTuple):
    """The teacher's reaction to a batch of images.

    Attributes:
        outputs: logits (B, C) and whatever else the method needs.
        distance: () how far the images' statistics are from the teacher's batch normalisation (`bn_distance`).
    """

    outputs: Outputs
    distance: Tensor


class TeacherCritic:
    """The teacher as a judge of normalised images: it is not changed, and gradients reach the images."""

    def __init__(self, context: MethodContext, method: str) -> None:
        """Wrap the first teacher of the context.

        Args:
            context: the networks and the data's statistics.
            method: the method's name, for messages.

        Raises:
            InputError: the samples are not images, or the teacher passes no gradient.
        """
        if context.example.dim() != IMAGE_DIMS:
            shape = tuple(context.example.shape[1:])
            raise InputError(f"method {method!r} makes up images (C, H, W); the samples have shape {shape}")
        self._mean, self._std = context.mean.view(-1, 1, 1), context.std.view(-1, 1, 1)
        self._teacher = context.teachers[0]
        self._network = context.observe(self._teacher, context.example)
        self.shape = tuple(context.example.shape[1:])
        self.has_batchnorm = bool(batchnorm_layers(self._teacher))
        self._check_gradient(context.example, method)

    def _check_gradient(self, example: Tensor, method: str) -> None:
        x = example.detach().clone().requires_grad_()
        try:
            torch.autograd.grad(self._network(x).logits.sum(), x)
        except RuntimeError as error:  # NumPy, another runtime or a detached tensor cuts the graph
            raise InputError(
                f"method {method!r} needs gradients through the teacher, and this one lets none through "
                f"({' '.join(str(error).split())[:100]})"
            ) from error

    def __call__(self, x: Tensor) -> CriticOutput:
        """Judge normalised images (B, C, H, W)."""
        outputs, distance = run_with_bn_distance(self._teacher, lambda: self._network(self.to_stored_units(x)))
        return CriticOutput(outputs, distance)

    def to_stored_units(self, x: Tensor) -> Tensor:
        """Convert normalised images (B, C, H, W) to the units in which the data is stored."""
        return self._mean + self._std * x

    def batch(self, x: Tensor, y: Tensor) -> Batch:
        """Make a training batch of synthetic images, without indices into the training split.

        Args:
            x: (B, C, H, W) normalised images.
            y: (B,) int64 class numbers.
        """
        return Batch(self.to_stored_units(x).contiguous(memory_format=torch.channels_last), y, y[:0], 1.0)


class ImageBank(nn.Module):
    """Ring of images in buffers of fixed size, so that checkpoints carry them; new images replace the oldest.

    Attributes:
        x: (size, C, H, W) float32 normalised images.
        y: (size,) int64 class numbers.
        added: () int64 number of images added so far, replaced ones included.
    """

    x: Tensor
    y: Tensor
    added: Tensor

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        """Reserve memory for the images.

        Args:
            size: number of images; fewer where they would take more than `BANK_BYTES`.
            shape: (C, H, W) of one image.
        """
        super().__init__()
        size = max(1, min(size, BANK_BYTES // (4 * torch.Size(shape).numel())))
        self.register_buffer("x", torch.zeros(size, *shape))
        self.register_buffer("y", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("added", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.x)

    @torch.no_grad()
    def put(self, x: Tensor, y: Tensor) -> None:
        """Add images (B, C, H, W) and their class numbers (B,), replacing the oldest ones."""
        places = (self.added + torch.arange(len(x))) % len(self)
        self.x[places], self.y[places] = x, y
        self.added += len(x)

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """Draw `n` images (n, C, H, W) and their class numbers (n,) at random, with replacement."""
        chosen = torch.randint(min(int(self.added), len(self)), (n,))
        return self.x[chosen], self.y[chosen]


def random_roll(x: Tensor) -> Tensor:
    """Shift all images (B, C, H, W) by one random offset of up to an eighth of each side, wrapping around."""
    by = [int(torch.randint(-(side // 8), side // 8 + 1, ())) for side in x.shape[2:]]
    return x.roll(by, (2, 3))


def batchnorm_layers(network: nn.Module) -> list[nn.Module]:
    """The batch normalisation layers of a network that keep running statistics."""
    return [m for m in network.modules() if isinstance(m, NORMS) and m.running_mean is not None]


def run_with_bn_distance(network: nn.Module, run: Callable[[], Any]) -> tuple[Any, Tensor]:
    """Run a network and compare its inputs' statistics with those that batch normalisation recorded in training.

    Args:
        network: in eval mode.
        run: calls the network once.

    Returns:
        What `run` returns, and the sum over `batchnorm_layers(network)` of ||mean - running mean||_2 + ||var - running
        var||_2 (Yin et al. 2020, eq. 4), each layer's norms divided by the square root of its width; 0 without such
        layers. The batch's statistics are those of the layer's input.
    """
    distances: list[Tensor] = []

    def compare(norm: Any, inputs: tuple[Tensor, ...]) -> None:
        distances.append(bn_distance(inputs[0], norm.running_mean, norm.running_var))

    handles = [norm.register_forward_pre_hook(compare) for norm in batchnorm_layers(network)]
    try:
        result = run()
    finally:
        for handle in handles:
            handle.remove()
    return result, torch.stack(distances).sum() if distances else torch.zeros(())


def bn_distance(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Distance of a batch's statistics from recorded ones: RMS over channels of the means' plus the variances' gap.

    Args:
        x: (B, c, ...) input of a batch normalisation layer.
        mean: (c,) running mean.
        variance: (c,) running variance.

    Returns:
        A scalar.
    """
    channels = x.float().transpose(0, 1).flatten(1)
    var, mu = torch.var_mean(channels, dim=1, correction=0)
    return rms(mu - mean) + rms(var - variance)


def rms(x: Tensor) -> Tensor:
    """Root mean square of all values, with a finite gradient at 0."""
    return (x.square().mean() + 1e-12).sqrt()
