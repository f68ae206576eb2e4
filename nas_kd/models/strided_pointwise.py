"""Works around a fault of oneDNN that corrupts memory: the gradient of a strided 1x1 convolution on AVX2.

With weights and images channels last, in float32, on a processor without AVX-512, the backward pass of such a
convolution writes past the end of its input's gradient where that has fewer than 8 channels (seen with torch 2.13).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEWEST = 8  # input channels from which the gradient is right: one register of AVX2


class StridedPointwise(nn.Conv2d):
    """A strided 1x1 convolution that drops the pixels it does not read before it multiplies, with the same results."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (B, C, H, W); as any other convolution where no gradient of x is wanted, as in exported files."""
        if not x.requires_grad or torch.onnx.is_in_onnx_export():
            return super().forward(x)
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight, self.bias, groups=self.groups)


def avoid_faulty_gradients(model: nn.Module) -> None:
    """Make the convolutions concerned `StridedPointwise`, in place; only their class changes, and only on AVX2."""
    if torch.backends.cpu.get_cpu_capability() != "AVX2":
        return
    for module in model.modules():
        if type(module) is nn.Conv2d and _is_concerned(module):
            module.__class__ = StridedPointwise


def _is_concerned(conv: nn.Conv2d) -> bool:
    pointwise = conv.kernel_size == (1, 1) and conv.padding in {(0, 0), "valid"} and max(conv.stride) > 1
    return pointwise and conv.in_channels // conv.groups < FEWEST
