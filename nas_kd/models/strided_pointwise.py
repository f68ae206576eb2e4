"""Works around a fault of oneDNN that corrupts memory: the gradient of a strided 1x1 convolution of few channels.

With weights and images channels last, the backward pass of such a convolution writes past the end of its input's
gradient where that has fewer channels than a vector register has floats: 8 with AVX2, 16 with AVX-512, where maps have
a side of about 50 and more; in float32 and bfloat16 (seen with torch 2.13).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEWEST = 16  # input channels from which the gradient is right on any processor: one register of AVX-512


class StridedPointwise(nn.Conv2d):
    """A strided 1x1 convolution that drops the pixels it does not read before it multiplies, with the same results."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (B, C, H, W); as any other convolution where no gradient of x is wanted, as in exported files."""
        if not x.requires_grad or torch.onnx.is_in_onnx_export():
            return super().forward(x)
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight, self.bias, groups=self.groups)


def avoid_faulty_gradients(model: nn.Module) -> None:
    """Make the convolutions concerned `StridedPointwise`, in place; only their class changes."""
    for module in model.modules():
        if type(module) is nn.Conv2d and _is_concerned(module):
            module.__class__ = StridedPointwise


def _is_concerned(conv: nn.Conv2d) -> bool:
    pointwise = conv.kernel_size == (1, 1) and conv.padding in {(0, 0), "valid"} and max(conv.stride) > 1
    return pointwise and conv.in_channels // conv.groups < FEWEST
