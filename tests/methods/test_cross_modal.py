"""Cross-modal: the loss in closed form, its gradients, collapsed batches."""

import pytest
import torch

from nas_kd.methods.base import Outputs
from nas_kd.methods.combine import make_method

from .toys import batch_of, kl, outputs, setting_of, softmax


@pytest.mark.parametrize(("b", "c", "temperature"), [(2, 3, 4.0), (5, 7, 1.0)])
def test_it_is_soft_targets_and_the_mean_square_of_adapted_embeddings(b: int, c: int, temperature: float) -> None:
    s, t = outputs(0, b, c, embedding=4), outputs(1, b, c, embedding=6)
    method = make_method("cross_modal", temperature=temperature)
    method.attach(setting_of(s, [t]))
    method.double()
    terms = method(s, [t], batch_of(b, c))
    weight, bias = (p.detach().numpy() for p in method.parameters())
    assert weight.shape == (6, 4)
    difference = s.embedding.numpy() @ weight.T + bias - t.embedding.numpy()
    p, q = softmax(t.logits.numpy(), temperature), softmax(s.logits.numpy(), temperature)
    assert terms["cross_modal_logits"].item() == pytest.approx(0.9 * temperature**2 * kl(p, q))
    assert terms["cross_modal_embedding"].item() == pytest.approx((difference**2).mean())
    assert method.ce_weight == pytest.approx(0.1)
    assert method.needs >= {"pairs"}


def test_gradients_reach_student_and_adapter_and_never_the_teacher() -> None:
    s, t = outputs(0, 3, 4, embedding=5), outputs(1, 3, 4, embedding=2)
    method = make_method("cross_modal", temperature=2.0)
    method.attach(setting_of(s, [t]))
    method.double()

    def total(logits: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        return torch.stack(list(method(Outputs(logits, (), embedding), [t], batch_of(3, 4)).values())).sum()

    inputs = (s.logits.requires_grad_(), s.embedding.requires_grad_())
    assert torch.autograd.gradcheck(total, inputs)
    total(*inputs).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())
    assert not t.logits.requires_grad


@pytest.mark.parametrize("b", [2, 4])
def test_equal_samples_and_equal_networks_give_no_nan(b: int) -> None:
    same = outputs(0, 1, 3, embedding=4)
    s = Outputs(same.logits.repeat(b, 1).requires_grad_(), (), same.embedding.repeat(b, 1).requires_grad_())
    method = make_method("cross_modal")
    method.attach(setting_of(s, [s]))
    method.double()
    terms = method(s, [Outputs(s.logits.detach(), (), s.embedding.detach())], batch_of(b, 3))
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert terms["cross_modal_logits"].item() == pytest.approx(0, abs=1e-12)
    assert all(g is not None and torch.isfinite(g).all() for g in (s.logits.grad, s.embedding.grad))
