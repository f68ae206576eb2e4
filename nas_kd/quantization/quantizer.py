"""Rounding to 8 bits in the forward pass, straight through in the backward pass.

x^ = s (clip(round(x / s) + z, 0, 255) - z), z whole, so that 0 stays exact   Jacob et al. 2018, arXiv:1712.05877, eq. 1
dx^/dx = 1 inside the range, else 0                                           straight through
dx^/dlog s = s (round(x/s) - x/s) inside, s (-z) or s (255 - z) outside       Jain et al. 2020, arXiv:1903.08066, eq. 7

Weights are symmetric, -127..127 or less (`weight_range`), with one step per output channel: its current largest weight
over that limit (Jacob, section 3.1). Ranges of activations start from observed ones and are learnt from then on, in the
log domain: a learning rate then means the same for wide and narrow ranges, and no step becomes negative.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from nas_kd.quantization.weight_range import weight_limit

N_STEPS = 255  # steps from the lowest to the highest activation of a range
MIN_STEP = 1e-7  # for tensors that are always 0
MOMENTUM = 0.1  # of observed ranges


class _Rounded(torch.autograd.Function):
    """x^ from (x, step s that broadcasts to x, (lowest, highest) whole number)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, bounds: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, step)
        ctx.bounds = bounds
        return (x / step).round_().clamp_(*bounds).mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, step = ctx.saved_tensors
        gradient, (lowest, highest) = gradients[0], ctx.bounds
        ratio = x / step
        inside = (ratio >= lowest) & (ratio <= highest)
        of_step = None
        if ctx.needs_input_grad[1]:
            of_step = torch.where(inside, ratio.round() - ratio, ratio.clamp(lowest, highest)).mul_(gradient)
            of_step = of_step.sum_to_size(step.shape)
        return gradient * inside, of_step, None


def fake_quantize(x: Tensor, step: Tensor, bounds: tuple[int, int]) -> Tensor:
    """Round to whole multiples of a step, with a straight-through gradient.

    Args:
        x: any shape.
        step: s > 0, broadcasts to `x`; it gets a gradient if it needs one.
        bounds: lowest and highest whole number.
    """
    result: Tensor = _Rounded.apply(x, step, bounds)  # type: ignore[no-untyped-call]
    return result


def weight_steps(weight: Tensor) -> Tensor:
    """Compute the step of each output channel, its largest weight over the limit: (out, ...) -> (out,), no gradient.

    With a step per channel, batch normalisation can be folded into a layer without a second rounding: its factor scales
    a channel's weights and its step alike.
    """
    largest = weight.detach().float().abs().flatten(1).amax(dim=1)
    return (largest / weight_limit()).clamp_min(MIN_STEP)


def quantized_weight(weight: Tensor) -> Tensor:
    """Round a layer's weights (out, in, ...) to their grid; none is clipped."""
    steps = weight_steps(weight).view(-1, *(1 for _ in weight.shape[1:]))
    return fake_quantize(weight, steps, (-weight_limit(), weight_limit()))


class RangeQuantizer(nn.Module):
    """Quantizer of one activation tensor with a learnt step.

    Attributes:
        log_step: () logarithm of the step, learnt.
        zero: () int32 whole number that stands for 0, 0..255.
        low: () smallest activation observed (moving average), infinite before the first.
        high: () largest activation observed (moving average).
    """

    log_step: nn.Parameter
    zero: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.log_step = nn.Parameter(torch.zeros((), device=device))
        self.register_buffer("zero", torch.zeros((), dtype=torch.int32, device=device))
        self.register_buffer("low", torch.full((), math.inf, device=device))
        self.register_buffer("high", torch.full((), -math.inf, device=device))

    @property
    def step(self) -> Tensor:
        """Distance between neighbouring values of the grid."""
        return self.log_step.exp()

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Move the range towards this batch's smallest and largest value (exponential moving averages)."""
        low, high = (value.float() for value in torch.aminmax(x.detach()))
        seen = bool(self.low <= self.high)
        self.low.copy_(torch.lerp(self.low, low, MOMENTUM) if seen else low)
        self.high.copy_(torch.lerp(self.high, high, MOMENTUM) if seen else high)
        bottom, top = self.low.clamp_max(0), self.high.clamp_min(0)
        step = ((top - bottom) / N_STEPS).clamp_min(MIN_STEP)
        self.log_step.copy_(step.log())
        self.zero.copy_((-bottom / step).round().clamp(0, N_STEPS))

    @torch.no_grad()
    def reset(self) -> None:
        """Forget the observed range, so that observation starts afresh."""
        self.low.fill_(math.inf)
        self.high.fill_(-math.inf)

    def forward(self, x: Tensor) -> Tensor:
        """Round activations of any shape to the grid; the result is float32."""
        zero = int(self.zero)
        return fake_quantize(x.float(), self.step, (-zero, N_STEPS - zero))
