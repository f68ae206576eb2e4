"""Fake quantisation in closed form: values, gradients straight through, ranges."""

import math

import pytest
import torch

from nas_kd.quantization.quantizer import N_STEPS, RangeQuantizer, fake_quantize, quantized_weight, weight_steps


def test_values_lie_on_the_grid_and_end_where_the_range_ends() -> None:
    x = torch.tensor([-9.0, -1.0, -0.3, 0.0, 0.26, 0.74, 5.0])
    rounded = fake_quantize(x, torch.tensor(0.5), (-2, 3))
    assert rounded.tolist() == [-1.0, -1.0, -0.5, 0.0, 0.5, 0.5, 1.5]


def test_gradients_go_straight_through_and_the_steps_follow_the_formula() -> None:
    step = torch.tensor(0.5, requires_grad=True)
    x = torch.tensor([-9.0, 0.3, 0.6, 5.0], requires_grad=True)
    upstream = torch.tensor([1.0, 2.0, 3.0, 4.0])
    (fake_quantize(x, step, (-2, 3)) * upstream).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 2.0, 3.0, 0.0]
    # round(v) - v with v = x / s inside, the end of the range outside, each times what comes from behind
    expected = 1 * -2 + 2 * (1 - 0.6) + 3 * (1 - 1.2) + 4 * 3
    assert step.grad is not None
    assert step.grad.item() == pytest.approx(expected, rel=1e-6)


def test_a_learnt_range_gets_the_gradient_of_the_logarithm_of_its_step() -> None:
    quantiser = RangeQuantizer(torch.device("cpu"))
    quantiser.observe(torch.tensor([0.0, 51.0]))
    assert quantiser.step.item() == pytest.approx(0.2)
    quantiser(torch.tensor([60.0, 0.25])).sum().backward()
    assert quantiser.log_step.grad is not None
    assert quantiser.log_step.grad.item() == pytest.approx(0.2 * (255 + (1 - 1.25)), rel=1e-5)


@pytest.mark.parametrize("limit", [127, 63])
def test_weights_have_a_step_a_channel_and_nothing_is_clipped(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_kd.quantization.quantizer.weight_limit", lambda: limit)
    weight = torch.tensor([[limit / 100, -0.627], [0.0, 0.0], [-0.5, 0.25]], requires_grad=True)
    assert weight_steps(weight).tolist() == pytest.approx([0.01, 1e-7, 0.5 / limit])
    rounded = quantized_weight(weight)
    half = {127: 64, 63: 31}[limit] * 0.5 / limit
    assert rounded.detach().flatten().tolist() == pytest.approx([limit / 100, -0.63, 0.0, 0.0, -0.5, half])
    rounded.sum().backward()
    assert weight.grad is not None
    assert bool((weight.grad == 1).all())


def test_a_factor_of_each_channel_commutes_with_rounding() -> None:
    """Why batch normalisation can be folded afterwards."""
    torch.manual_seed(0)
    weight, factor = torch.randn(6, 4, 3, 3), torch.tensor([2.0, -0.5, 4.0, 0.25, -1.0, 8.0]).view(-1, 1, 1, 1)
    assert torch.equal(quantized_weight(weight * factor), quantized_weight(weight) * factor)


def test_observed_ranges_move_by_a_tenth_and_contain_0_exactly() -> None:
    quantiser = RangeQuantizer(torch.device("cpu"))
    quantiser.observe(torch.tensor([-1.0, 3.0]))
    quantiser.observe(torch.tensor([-2.0, 5.0]))
    assert (quantiser.low.item(), quantiser.high.item()) == pytest.approx((-1.1, 3.2))
    assert quantiser.step.item() == pytest.approx(4.3 / N_STEPS)
    assert int(quantiser.zero) == round(1.1 / (4.3 / N_STEPS))
    assert quantiser(torch.zeros(3)).tolist() == [0.0] * 3
    quantiser.reset()
    quantiser.observe(torch.tensor([2.0, 4.0]))
    assert (int(quantiser.zero), quantiser.step.item()) == (0, pytest.approx(4 / N_STEPS))


def test_what_is_always_0_stays_0() -> None:
    quantiser = RangeQuantizer(torch.device("cpu"))
    quantiser.observe(torch.zeros(4))
    assert quantiser(torch.zeros(4)).tolist() == [0.0] * 4
    assert math.isfinite(quantiser.log_step.item())
