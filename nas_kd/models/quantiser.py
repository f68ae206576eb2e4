"""Rounding to 8 bits in the forward pass, with step sizes that are learnt (LSQ, Esser et al. 2020, arXiv:1902.08153).

x^ = s clip(round(x / s), -Qn, Qp)                                             (eq. 1, 2)
dx^/dx = 1 where -Qn <= x/s <= Qp, else 0: straight through                     (eq. 5)
dx^/ds = round(x/s) - x/s inside, -Qn or Qp outside                            (eq. 3), times g = 1 / sqrt(N Qp)

A range that does not start at 0 is shifted by a whole number z, so that 0 stays exact (Jacob et al. 2018,
arXiv:1712.05877, eq. 1): Qn = z, Qp = 255 - z. First ranges are those observed: the paper's first step, made for 2 to 4
bits, would cut 8-bit ranges far too wide.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

LEVELS = 255  # steps from one end of a range of activations to the other
LARGEST = 127  # of weights, which are symmetric
SMALLEST_STEP = 1e-7  # of what is always 0
MOMENTUM = 0.1  # of observed ranges


class _LearnedStep(torch.autograd.Function):
    """(x, s broadcast to x, (lowest, highest) whole number, scale of the step's gradient) -> x^."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, bounds: tuple[int, int], scale: float) -> Tensor:
        ctx.save_for_backward(x, step)
        ctx.bounds, ctx.scale = bounds, scale
        return (x / step).round_().clamp_(*bounds).mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, step = ctx.saved_tensors
        gradient, (lowest, highest) = gradients[0], ctx.bounds
        ratio = x / step
        inside = (ratio >= lowest) & (ratio <= highest)
        of_step = torch.where(inside, ratio.round() - ratio, ratio.clamp(lowest, highest)).mul_(gradient)
        return gradient * inside, of_step.sum_to_size(step.shape) * ctx.scale, None, None


def fake_quantise(x: Tensor, step: Tensor, bounds: tuple[int, int], scale: float) -> Tensor:
    """`x` on the grid of whole numbers within `bounds` times `step`, which broadcasts to `x`.

    `scale`: of the step's gradient.
    """
    result: Tensor = _LearnedStep.apply(x, step, bounds, scale)  # type: ignore[no-untyped-call]
    return result


def at_least(step: Tensor) -> Tensor:
    """Not below the smallest; the gradient passes as if there were no limit, so that a step can grow again."""
    return step + (SMALLEST_STEP - step.detach()).clamp_min(0)


class WeightQuantiser(nn.Module):
    """A layer's weights (out, in, ...), symmetric, one step per output channel.

    Behind it batch normalisation may be folded into the layer without another rounding: a channel's factor scales its
    weights and its step alike.
    """

    step: nn.Parameter

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self._shape = (-1, *(1 for _ in weight.shape[1:]))
        self._scale = 1 / math.sqrt(LARGEST * max(1, weight[0].numel()))
        self.step = nn.Parameter(torch.empty(len(weight), device=weight.device))
        self.observe(weight)

    @torch.no_grad()
    def observe(self, weight: Tensor) -> None:
        """Let the range end at each channel's largest weight."""
        largest = weight.detach().float().abs().flatten(1).amax(dim=1)
        self.step.copy_((largest / LARGEST).clamp_min(SMALLEST_STEP))

    def forward(self, weight: Tensor) -> Tensor:
        """On the grid."""
        return fake_quantise(weight, at_least(self.step).view(self._shape), (-LARGEST, LARGEST), self._scale)


class RangeQuantiser(nn.Module):
    """A tensor of activations: one step, and the whole number that stands for 0."""

    step: nn.Parameter
    zero: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.step = nn.Parameter(torch.ones((), device=device))
        self.register_buffer("zero", torch.zeros((), dtype=torch.int32, device=device))
        self.register_buffer("low", torch.full((), math.inf, device=device))
        self.register_buffer("high", torch.full((), -math.inf, device=device))

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Move the range towards this batch's smallest and largest value (exponential moving averages)."""
        low, high = (value.float() for value in torch.aminmax(x.detach()))
        seen = bool(self.low <= self.high)
        self.low.copy_(torch.lerp(self.low, low, MOMENTUM) if seen else low)
        self.high.copy_(torch.lerp(self.high, high, MOMENTUM) if seen else high)
        bottom, top = self.low.clamp_max(0), self.high.clamp_min(0)
        self.step.copy_(((top - bottom) / LEVELS).clamp_min(SMALLEST_STEP))
        self.zero.copy_((-bottom / self.step).round().clamp(0, LEVELS))

    @torch.no_grad()
    def forget(self) -> None:
        """Observe anew."""
        self.low.fill_(math.inf)
        self.high.fill_(-math.inf)

    def forward(self, x: Tensor) -> Tensor:
        """On the grid, in float32 as `x` is, or was before autocast."""
        zero = int(self.zero)
        per_sample = x.numel() / max(1, len(x))
        scale = 1 / math.sqrt(per_sample * max(1, LEVELS - zero))
        return fake_quantise(x.float(), at_least(self.step), (-zero, LEVELS - zero), scale)
