"""Strided 1x1 convolutions of few channels: trained without damage to memory, and with the same results."""

import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from torch import nn

from nas_kd.engine.numerics import Numerics
from nas_kd.models.strided_pointwise import StridedPointwise

CHANNELS_LAST = Numerics(bf16=False, channels_last=True)
TRAINING = """
import torch
from torch import nn
from nas_kd.engine.numerics import Numerics
numerics = Numerics(bf16={bf16}, channels_last=True)
conv = numerics.place(nn.Conv2d({channels}, 8, 1, 2, bias=False))
for _ in range({times}):
    x = numerics.to_layout(torch.rand({shape})).requires_grad_()
    with numerics.autocast():
        y = conv(x * 1)
    torch.autograd.grad(y.sum(), [x, conv.weight])
"""


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(
    ("channels", "samples", "side", "times"),
    [
        pytest.param(3, 32, 8, 200, id="AVX2"),
        pytest.param(4, 8, 80, 20, id="AVX-512-4"),
        pytest.param(12, 8, 80, 20, id="AVX-512-12"),
    ],
)
def test_training_leaves_memory_intact(channels: int, samples: int, side: int, times: int, bf16: bool) -> None:
    """In a process of its own, as the fault ends it; large maps are what damages memory on AVX-512."""
    shape = (samples, channels, side, side)
    code = TRAINING.format(channels=channels, shape=shape, times=times, bf16=bf16)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
@pytest.mark.parametrize("groups", [1, 2])
def test_same_values_and_gradients(size: tuple[int, int], groups: int) -> None:
    """As the convolution that it stands for, in double precision, which oneDNN does not compute."""
    placed = nn.Conv2d(4, 6, 1, (2, 3), groups=groups)
    plain = deepcopy(placed).double()
    CHANNELS_LAST.place(placed)
    assert type(placed) is StridedPointwise
    x = torch.rand(2, 4, *size, requires_grad=True)
    expected = plain(x.double())
    right = torch.autograd.grad(expected.square().sum(), [plain.weight])[0]
    result = placed(CHANNELS_LAST.to_layout(x))
    found = torch.autograd.grad(result.square().sum(), [placed.weight])[0]
    torch.testing.assert_close(result, expected.float())
    torch.testing.assert_close(found, right.float())


@pytest.mark.parametrize("conv", [nn.Conv2d(16, 8, 1, 2), nn.Conv2d(4, 8, 1, 1), nn.Conv2d(4, 8, 3, 2, 1)])
def test_other_convolutions_stay(conv: nn.Conv2d) -> None:
    """Only what the fault is known for is changed."""
    assert type(CHANNELS_LAST.place(conv)) is nn.Conv2d
