"""Every loss against values worked out in float64 numpy, straight from the formulas."""

import numpy as np
import pytest
import torch
from torch import Tensor

from nas_kd.methods.base import Method, Outputs
from nas_kd.methods.combine import make_method
from nas_kd.methods.losses import kl_divergence

from .toys import Array, batch_of, kl, outputs, setting_of, softmax


@pytest.mark.parametrize(("b", "c", "temperature"), [(2, 3, 1.0), (5, 10, 4.0), (7, 2, 0.5)])
def test_kl_is_t_squared_times_the_sum_over_classes_and_the_mean_over_the_batch(
    b: int, c: int, temperature: float
) -> None:
    s, t = outputs(0, b, c, []).logits, outputs(1, b, c, []).logits
    expected = temperature**2 * kl(softmax(t.numpy(), temperature), softmax(s.numpy(), temperature))
    assert kl_divergence(s, t, temperature).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("b", [2, 6])
def test_soft_targets(b: int) -> None:
    s, t = outputs(0, b, 5, []), outputs(1, b, 5, [])
    method = make_method("soft_targets", temperature=3.0)
    expected = 0.9 * 9 * kl(softmax(t.logits.numpy(), 3.0), softmax(s.logits.numpy(), 3.0))
    assert method(s, [t], batch_of(b, 5))["soft_targets"].item() == pytest.approx(expected)
    assert method.ce_weight == pytest.approx(0.1)


@pytest.mark.parametrize(("b", "c"), [(2, 3), (6, 10)])
def test_dkd_parts(b: int, c: int) -> None:
    s, t, batch = outputs(0, b, c, []), outputs(1, b, c, []), batch_of(b, c)
    terms = make_method("dkd", temperature=4.0)(s, [t], batch)
    ps, pt, y = softmax(s.logits.numpy(), 4.0), softmax(t.logits.numpy(), 4.0), batch.y.numpy()

    def binary(p: Array) -> Array:
        hit = p[np.arange(b), y]
        return np.stack([hit, 1 - hit], axis=1)

    def rest(p: Array) -> Array:
        others = np.array([np.delete(row, k) for row, k in zip(p, y, strict=True)])
        return others / others.sum(axis=1, keepdims=True)

    assert terms["dkd_target"].item() == pytest.approx(16 * kl(binary(pt), binary(ps)))
    assert terms["dkd_rest"].item() == pytest.approx(2 * 16 * kl(rest(pt), rest(ps)))


def test_dkd_with_target_weight_and_rest_weight_p_rest_is_the_plain_kl() -> None:
    """Equation 6 of the paper: KL = KL(binary) + (1 - p_target) KL(rest), per sample."""
    s, t, batch = outputs(0, 1, 4, []), outputs(1, 1, 4, []), batch_of(1, 4)
    terms = make_method("dkd", temperature=2.0)(s, [t], batch)
    p_rest = 1 - softmax(t.logits.numpy(), 2.0)[0, 0]
    assert (terms["dkd_target"] + p_rest * terms["dkd_rest"] / 2).item() == pytest.approx(
        kl_divergence(s.logits, t.logits, 2.0).item()
    )


def test_dkd_ramps_up() -> None:
    s, t = outputs(0, 3, 4, []), outputs(1, 3, 4, [])
    method = make_method("dkd")
    early, full = (method(s, [t], batch_of(3, 4, p))["dkd_rest"].item() for p in (10 / 240, 0.5))
    assert early == pytest.approx(full / 2)


def test_dkd_survives_a_teacher_that_is_certain() -> None:
    t = Outputs(torch.tensor([[200.0, 0.0, 0.0], [0.0, 300.0, 0.0]]), (), torch.zeros(2, 0))
    s = Outputs(torch.randn(2, 3, requires_grad=True), (), torch.zeros(2, 0))
    loss = sum(make_method("dkd")(s, [t], batch_of(2, 3)).values())
    assert isinstance(loss, Tensor)
    loss.backward()
    assert s.logits.grad is not None
    assert torch.isfinite(s.logits.grad).all()


def test_attention_transfer_sums_the_stages_from_the_last_and_pools_to_the_smaller_map() -> None:
    s = outputs(0, 3, 4, [(2, 8, 8), (3, 4, 4), (5, 2, 2)])
    t = outputs(1, 3, 4, [(7, 8, 8), (9, 2, 2)])

    def attention(f: Array) -> Array:
        q = (f**2).mean(axis=1).reshape(len(f), -1)
        return np.asarray(q / np.linalg.norm(q, axis=1, keepdims=True))

    def halve(f: Array) -> Array:
        b, c, h, w = f.shape
        return f.reshape(b, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))

    (_, s1, s2), (t1, t2) = [f.numpy() for f in s.features], [f.numpy() for f in t.features]
    expected = sum(float(((attention(a) - attention(b)) ** 2).mean()) for a, b in [(s1, halve(t1)), (s2, t2)])
    terms = make_method("attention_transfer")(s, [t], batch_of(3, 4))
    assert terms["attention_transfer"].item() == pytest.approx(1000 * expected)


@pytest.mark.parametrize("b", [2, 5])
def test_similarity(b: int) -> None:
    s, t = outputs(0, b, 4, [(2, 4, 4), (3, 2, 2)]), outputs(1, b, 4, [(9, 3, 3)])

    def gram(f: Array) -> Array:
        flat = f.reshape(len(f), -1)
        g = flat @ flat.T
        return np.asarray(g / np.linalg.norm(g, axis=1, keepdims=True))

    difference = gram(s.features[-1].numpy()) - gram(t.features[-1].numpy())
    expected = 3000 * np.linalg.norm(difference) ** 2 / b**2
    assert make_method("similarity")(s, [t], batch_of(b, 4))["similarity"].item() == pytest.approx(expected)


def test_fitnet_is_the_mean_square_at_the_middle_stage_behind_its_adapter() -> None:
    s = outputs(0, 4, 3, [(2, 8, 8), (3, 4, 4), (5, 2, 2)])
    t = outputs(1, 4, 3, [(6, 8, 8), (7, 4, 4), (8, 2, 2)])
    method = make_method("fitnet").double()
    method.attach(setting_of(s, [t]))
    method.double().eval()  # running statistics 0 and 1: batch-norm only divides by sqrt(1 + eps)
    weight = next(method.parameters()).detach().numpy()[:, :, 0, 0]
    adapted = np.einsum("oc,bchw->bohw", weight, s.features[1].numpy()) / np.sqrt(1 + 1e-5)
    expected = 100 * ((adapted - t.features[1].numpy()) ** 2).mean()
    assert method(s, [t], batch_of(4, 3))["fitnet"].item() == pytest.approx(expected, rel=1e-6)


def test_a_combination_sums_terms_and_takes_the_smallest_ce_weight() -> None:
    s, t = outputs(0, 3, 4, [(2, 2, 2)]), outputs(1, 3, 4, [(5, 2, 2)])
    both = make_method("soft_targets+similarity", temperature=4.0, strength=0.5)
    apart: dict[str, Tensor] = {}
    for name in ("soft_targets", "similarity"):
        apart |= make_method(name, temperature=4.0)(s, [t], batch_of(3, 4))
    together = both(s, [t], batch_of(3, 4))
    assert {k: v.item() for k, v in together.items()} == pytest.approx({k: v.item() for k, v in apart.items()})
    assert (both.ce_weight, both.strength) == (pytest.approx(0.1), 0.5)
    assert both.needs == {"logits", "features"}


@pytest.mark.parametrize("name", ["soft_targets", "dkd", "similarity", "attention_transfer"])
def test_gradients(name: str) -> None:
    t, method, b = outputs(1, 3, 4, [(5, 2, 2)]), make_method(name, temperature=2.0), batch_of(3, 4)

    def total(logits: Tensor, features: Tensor) -> Tensor:
        student = Outputs(logits, (features,), logits[:, :0])
        return torch.stack(list(method(student, [t], b).values())).sum()

    s = outputs(0, 3, 4, [(2, 2, 2)])
    inputs = (s.logits.requires_grad_(), s.features[0].requires_grad_())
    assert torch.autograd.gradcheck(total, inputs)


def test_a_method_is_a_module_whose_parameters_can_be_trained() -> None:
    method = make_method("fitnet")
    assert isinstance(method, Method)
    method.attach(setting_of(outputs(0, 2, 3, [(2, 4, 4)]), [outputs(1, 2, 3, [(4, 4, 4)])]))
    assert sum(p.numel() for p in method.parameters()) == 2 * 4 + 4 + 4
