"""The blocks: shapes, shortcuts, initialisation, and that their shortcuts in speed change no number."""

import pytest
import torch
from torch import nn

from nas_kd.models.blocks import (
    BatchNorm,
    ConvNorm,
    DepthwiseConv,
    InvertedResidual,
    ResidualBlock,
    SqueezeExcite,
    initialise,
)


def test_batch_norm_is_that_of_torch() -> None:
    ours, theirs, x = BatchNorm(3), nn.BatchNorm2d(3), torch.randn(8, 3, 5, 5)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_batch_norm_without_momentum_averages_all_steps() -> None:
    norm = BatchNorm(1, momentum=None)
    norm(torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1))
    norm(torch.tensor([5.0, 7.0]).reshape(2, 1, 1, 1))
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, torch.tensor([4.0]))


@pytest.mark.parametrize(("stride", "side"), [(1, 7), (2, 4)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_residual_block_halves_rounding_up(kernel: int, stride: int, side: int) -> None:
    assert ResidualBlock(4, 8, kernel, stride)(torch.randn(2, 4, 7, 7)).shape == (2, 8, side, side)


def test_the_shortcut_is_projected_only_where_shapes_change() -> None:
    assert ResidualBlock(8, 8, 3, 1).shortcut is None
    assert ResidualBlock(4, 8, 3, 1).shortcut is not None
    assert ResidualBlock(8, 8, 3, 2).shortcut is not None


def test_a_silent_branch_leaves_the_input() -> None:
    x = torch.rand(2, 8, 4, 4)
    residual, inverted = ResidualBlock(8, 8, 3, 1), InvertedResidual(8, 8, 2, 3, 1, squeeze=True)
    nn.init.zeros_(residual.second.norm.weight)
    nn.init.zeros_(inverted.project.norm.weight)
    assert torch.equal(residual(x), x)
    assert torch.equal(inverted(x), x)


def test_the_input_of_a_block_is_left_as_it_was() -> None:
    for block in (ResidualBlock(8, 8, 3, 1), InvertedResidual(8, 8, 2, 3, 1, squeeze=True), SqueezeExcite(8)):
        x = torch.randn(2, 8, 4, 4)
        before = x.clone()
        block(x)
        assert torch.equal(x, before)


def test_squeeze_excite_by_hand() -> None:
    module = SqueezeExcite(4)
    for tensor in module.parameters():
        nn.init.zeros_(tensor)
    nn.init.constant_(module.excite.bias, 1.5)  # type: ignore[arg-type]
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(module(x), x * (1.5 / 6 + 0.5))


def test_depthwise_convolution_keeps_dtype_and_computes_in_fp32() -> None:
    conv = DepthwiseConv(8, 8, 3, padding=1, groups=8, bias=False)
    x = torch.randn(2, 8, 6, 6, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, conv(x.float()).to(torch.bfloat16))
    assert isinstance(ConvNorm(8, 8, 3, groups=8).conv, DepthwiseConv)


def test_initialisation_keeps_the_variance_of_gradients() -> None:
    torch.manual_seed(0)
    dense, depthwise, linear = nn.Conv2d(16, 64, 3), nn.Conv2d(64, 64, 5, groups=64), nn.Linear(64, 10)
    initialise(nn.Sequential(dense, depthwise, linear))
    assert dense.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.03)
    assert depthwise.weight.std().item() == pytest.approx((2 / 25) ** 0.5, rel=0.05)
    assert linear.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert all(m.bias is not None and not m.bias.any().item() for m in (dense, depthwise, linear))
