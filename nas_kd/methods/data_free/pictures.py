"""What the data-free methods share: made-up pictures, and a teacher that gradients go through.

Of the training split they know mean and deviation of each channel, which the student's file carries anyway, its shape
and its number of classes; and the teacher. No sample is ever read.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.methods.base import Batch, MethodContext, Outputs
from nas_kd.methods.data_free.statistics import norms_of, with_statistics

IMAGE_DIMS = 4  # (B, C, H, W)
BANK_BYTES = 64 * 2**20


class Seen(NamedTuple):
    """What the teacher makes of pictures. `distance`: of their statistics from those of its training, a scalar."""

    outputs: Outputs
    distance: Tensor


class Critic:
    """The teacher, judging pictures in normalised space; it is not changed, gradients reach the pictures."""

    def __init__(self, context: MethodContext, method: str) -> None:
        """`method`: its name, for messages.

        Raises:
            InputError: the samples are no images, or the teacher lets no gradient through.
        """
        if context.example.dim() != IMAGE_DIMS:
            shape = tuple(context.example.shape[1:])
            raise InputError(f"method {method!r} makes up images (C, H, W); the samples have shape {shape}")
        self._mean, self._std = context.mean.view(-1, 1, 1), context.std.view(-1, 1, 1)
        self._teacher = context.teachers[0]
        self._network = context.observe(self._teacher, context.example)
        self.shape = tuple(context.example.shape[1:])
        self.has_norms = bool(norms_of(self._teacher))
        self._check(context.example, method)

    def _check(self, example: Tensor, method: str) -> None:
        x = example.detach().clone().requires_grad_()
        try:
            torch.autograd.grad(self._network(x).logits.sum(), x)
        except RuntimeError as error:  # whatever stands between: NumPy, another runtime, a detached tensor
            raise InputError(
                f"method {method!r} needs gradients through the teacher, and this one lets none through "
                f"({' '.join(str(error).split())[:100]})"
            ) from error

    def __call__(self, x: Tensor) -> Seen:
        """Pictures (B, C, H, W), normalised."""
        outputs, distance = with_statistics(self._teacher, lambda: self._network(self.stored(x)))
        return Seen(outputs, distance)

    def stored(self, x: Tensor) -> Tensor:
        """Normalised pictures in the units of the data."""
        return self._mean + self._std * x

    def batch(self, x: Tensor, y: Tensor) -> Batch:
        """A training batch of normalised pictures and their labels; they have no place in the training split."""
        return Batch(self.stored(x).contiguous(memory_format=torch.channels_last), y, y[:0], 1.0)


class Bank(nn.Module):
    """Pictures in buffers of fixed size, so that checkpoints carry them; the oldest make room for the newest."""

    x: Tensor  # (size, C, H, W) normalised
    y: Tensor  # (size,) int64
    added: Tensor  # how many were ever put in

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        size = max(1, min(size, BANK_BYTES // (4 * torch.Size(shape).numel())))
        self.register_buffer("x", torch.zeros(size, *shape))
        self.register_buffer("y", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("added", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.x)

    @torch.no_grad()
    def put(self, x: Tensor, y: Tensor) -> None:
        """Keep pictures (B, C, H, W) and their labels (B,)."""
        places = (self.added + torch.arange(len(x))) % len(self)
        self.x[places], self.y[places] = x, y
        self.added += len(x)

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """`n` of those kept, at random, with replacement."""
        chosen = torch.randint(min(int(self.added), len(self)), (n,))
        return self.x[chosen], self.y[chosen]


def shifted(x: Tensor) -> Tensor:
    """All pictures (B, C, H, W) moved by the same random step, up to an eighth of their sides, around the edges."""
    by = [int(torch.randint(-(side // 8), side // 8 + 1, ())) for side in x.shape[2:]]
    return x.roll(by, (2, 3))
