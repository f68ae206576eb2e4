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
numerics = Numerics(bf16=False, channels_last=True)
conv = numerics.place(nn.Conv2d({channels}, 8, 1, 2, bias=False))
for _ in range(200):
    x = numerics.to_layout(torch.rand(32, {channels}, 8, 8)).requires_grad_()
    torch.autograd.grad(conv(x * 1).sum(), [x, conv.weight])
"""


@pytest.mark.parametrize("channels", [3, 4])
def test_training_leaves_memory_intact(channels: int) -> None:
    """In a process of its own, as the fault ends it."""
    done = subprocess.run(
        [sys.executable, "-c", TRAINING.format(channels=channels)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
@pytest.mark.parametrize("groups", [1, 2])
def test_same_values_and_gradients(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], groups: int) -> None:
    """As the convolution that it stands for, in double precision, which oneDNN does not compute."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
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


@pytest.mark.parametrize("conv", [nn.Conv2d(8, 8, 1, 2), nn.Conv2d(4, 8, 1, 1), nn.Conv2d(4, 8, 3, 2, 1)])
def test_other_convolutions_stay(monkeypatch: pytest.MonkeyPatch, conv: nn.Conv2d) -> None:
    """Only what the fault is known for is changed."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert type(CHANNELS_LAST.place(conv)) is nn.Conv2d
