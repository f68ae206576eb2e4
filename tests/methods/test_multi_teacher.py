"""Several teachers: closed forms in float64 NumPy, who gets gradient, and too few of them."""

import numpy as np
import pytest
import torch
from torch import Tensor

from nas_kd.errors import InputError
from nas_kd.methods.base import Outputs
from nas_kd.methods.combine import make_method
from nas_kd.methods.multi_teacher.adaptive_teachers import AdaptiveTeachers
from nas_kd.methods.multi_teacher.average_teachers import mean_teacher_logits

from .toys import batch_of, kl, outputs, setting_of, softmax

NAMES = ["average_teachers", "random_teacher", "adaptive_teachers"]
MAPS: list[tuple[int, ...]] = [(2, 8, 8), (3, 4, 4), (5, 2, 2)]


@pytest.mark.parametrize(("b", "c", "n", "temperature"), [(2, 3, 2, 1.0), (5, 10, 3, 4.0), (7, 2, 2, 0.5)])
def test_average(b: int, c: int, n: int, temperature: float) -> None:
    s, teachers = outputs(0, b, c), [outputs(1 + i, b, c) for i in range(n)]
    p = [softmax(t.logits.numpy(), temperature) for t in teachers]
    q = softmax(s.logits.numpy(), temperature)
    method = make_method("average_teachers", temperature=temperature)
    found = method(s, teachers, batch_of(b, c))["average_teachers"].item()
    assert found == pytest.approx(0.9 * temperature**2 * kl(np.mean(p, axis=0), q))
    assert found < 0.9 * temperature**2 * np.mean([kl(one, q) for one in p])  # the mean of the KLs is another loss
    assert method.ce_weight == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["average_teachers", "random_teacher"])
def test_equal_teachers_are_one(name: str) -> None:
    s, t = outputs(0, 4, 5), outputs(1, 4, 5)
    one = make_method("soft_targets")(s, [t], batch_of(4, 5))["soft_targets"].item()
    assert make_method(name)(s, [t, t, t], batch_of(4, 5))[name].item() == pytest.approx(one)


def test_random_draws_every_teacher_as_often_from_torchs_generator() -> None:
    s, teachers, method = outputs(0, 3, 4), [outputs(1 + i, 3, 4) for i in range(3)], make_method("random_teacher")
    single = [make_method("soft_targets")(s, [t], batch_of(3, 4))["soft_targets"].item() for t in teachers]

    def drawn() -> list[int]:
        torch.manual_seed(7)
        values = [method(s, teachers, batch_of(3, 4))["random_teacher"].item() for _ in range(300)]
        return [int(np.argmin(np.abs(np.array(single) - v))) for v in values if min(abs(v - x) for x in single) < 1e-9]

    first = drawn()
    assert len(first) == 300
    assert np.abs(np.bincount(first, minlength=3) - 100).max() < 40
    assert drawn() == first


def adaptive(b: int, n: int, maps: list[tuple[int, ...]]) -> tuple[AdaptiveTeachers, Outputs, list[Outputs]]:
    torch.manual_seed(0)
    s, teachers = outputs(0, b, 4, MAPS, 6), [outputs(1 + i, b, 4, maps, 3) for i in range(n)]
    method = make_method("adaptive_teachers")
    assert isinstance(method, AdaptiveTeachers)
    method.attach(setting_of(s, teachers))
    return method.double(), s, teachers


@pytest.mark.parametrize(("b", "n"), [(2, 2), (5, 3)])
def test_adaptive(b: int, n: int) -> None:
    """Teacher 0 hints at the last stage, 1 at the one before, 2 (there are two in common) at the last again."""
    method, s, teachers = adaptive(b, n, [(7, 4, 4), (4, 2, 2)])
    method.eval()  # running statistics 0 and 1: batch normalisation only divides by sqrt(1 + eps)
    with torch.no_grad():
        method.v.mul_(5)
    terms = method(s, teachers, batch_of(b, 4))
    v, theta, e = method.v.detach().numpy()[0], method.theta.detach().numpy(), s.embedding.numpy()
    scores = np.array([[(v * (theta[i] * e[k])).sum() for i in range(n)] for k in range(b)])
    weights = softmax(scores, 1.0)
    assert np.ptp(weights, axis=0).max() > 0.01
    p = np.stack([softmax(t.logits.numpy(), 5.0) for t in teachers], axis=1)
    mixed = (weights[:, :, None] * p).sum(axis=1)
    expected = 0.7 * 25 * kl(mixed, softmax(s.logits.numpy(), 5.0))
    assert terms["adaptive_teachers"].item() == pytest.approx(expected)
    hints = 0.0
    for i, adapter in enumerate(method.adapters):
        stage = -1 if i % 2 == 0 else -2
        weight = next(adapter.parameters()).detach().numpy()[:, :, 0, 0]
        seen = np.einsum("oc,bchw->bohw", weight, s.features[stage].numpy()) / np.sqrt(1 + 1e-5)
        hints += ((seen - teachers[i].features[stage].numpy()) ** 2).mean()
    assert terms["adaptive_hints"].item() == pytest.approx(hints, rel=1e-6)
    assert method.ce_weight == pytest.approx(0.3)


def test_adaptive_weights_start_nearly_equal_and_are_learned() -> None:
    method, s, teachers = adaptive(6, 3, MAPS)
    weights = method.log_weights(s.embedding).exp()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(6, dtype=torch.float64))
    assert (weights - 1 / 3).abs().max() < 0.25
    optimizer = torch.optim.SGD([method.theta, method.v], lr=1.0)
    s = s._replace(logits=teachers[1].logits)  # the student is like the second teacher: its targets are the nearest
    for _ in range(50):
        loss = method(s, teachers, batch_of(6, 4))["adaptive_teachers"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert method.log_weights(s.embedding).exp().mean(dim=0).argmax() == 1


def test_adaptive_who_gets_gradient() -> None:
    method, s, teachers = adaptive(4, 2, MAPS)
    for x in (s.logits, s.embedding, *s.features):
        x.requires_grad_()
    terms = method(s, teachers, batch_of(4, 4))
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.any() for p in method.parameters())
    assert s.embedding.grad is None  # the student does not choose its targets
    assert s.features[0].grad is None  # two teachers, two stages
    assert all(f.grad is not None and f.grad.any() for f in (s.logits, *s.features[1:]))
    assert not any(x.requires_grad for t in teachers for x in (t.logits, *t.features, t.embedding))


@pytest.mark.parametrize("maps", [[], [(6, 5)], [(1, 1, 1)]])
def test_adaptive_does_with_what_teachers_show(maps: list[tuple[int, ...]]) -> None:
    """No maps at all, tokens, another resolution."""
    method, s, teachers = adaptive(3, 2, maps)
    terms = method(s, teachers, batch_of(3, 4))
    assert ("adaptive_hints" in terms) == bool(maps)
    assert all(torch.isfinite(v) for v in terms.values())


def test_mixed_logits_of_unequal_weights() -> None:
    teachers = [outputs(i, 3, 4) for i in range(2)]
    weights = torch.tensor([[0.2, 0.8]], dtype=torch.float64)
    mixed = softmax(mean_teacher_logits(teachers, 3.0, weights.log()).numpy(), 3.0)
    expected = 0.2 * softmax(teachers[0].logits.numpy(), 3.0) + 0.8 * softmax(teachers[1].logits.numpy(), 3.0)
    np.testing.assert_allclose(mixed, expected)


@pytest.mark.parametrize("name", NAMES)
def test_teachers_that_are_certain_and_equal_samples(name: str) -> None:
    sure = torch.tensor([[9000.0, 0.0, 0.0], [9000.0, 0.0, 0.0]])
    teachers = [Outputs(x, (), torch.zeros(2, 0)) for x in (sure, -sure, sure.flip(1))]
    s = Outputs(torch.ones(2, 3, requires_grad=True), (), torch.zeros(2, 4))
    method = make_method(name)
    method.attach(setting_of(s, teachers))
    loss = method(s, teachers, batch_of(2, 3))[name]
    loss.backward()
    assert torch.isfinite(loss)
    assert s.logits.grad is not None
    assert torch.isfinite(s.logits.grad).all()


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name: str) -> None:
    s, teachers = outputs(0, 3, 4, MAPS, 6), [outputs(1 + i, 3, 4, MAPS, 5) for i in range(2)]
    method = make_method(name, temperature=2.0)
    method.attach(setting_of(s, teachers))
    method.double().eval()

    def total(logits: Tensor, features: Tensor) -> Tensor:
        torch.manual_seed(1)
        student = Outputs(logits, (*s.features[:-1], features), s.embedding)
        return torch.stack(list(method(student, teachers, batch_of(3, 4)).values())).sum()

    given = (s.logits.requires_grad_(), s.features[-1].requires_grad_())
    assert torch.autograd.gradcheck(total, given)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [0, 1])
def test_too_few_teachers(name: str, n: int) -> None:
    s = outputs(0, 2, 3, MAPS, 4)
    with pytest.raises(InputError, match=rf"^method '{name}' learns from several teachers, and has {n}: [^\n]*$"):
        make_method(name).attach(setting_of(s, [outputs(1, 2, 3, MAPS, 4)] * n))


@pytest.mark.parametrize("name", NAMES)
def test_what_they_ask_for(name: str) -> None:
    method = make_method(name)
    assert method.teachers == "several"
    assert method.default_temperature == (5.0 if name == "adaptive_teachers" else 4.0)
    assert make_method(name, temperature=2.0).temperature == 2.0
