"""Exits, targets propagated in the batch, generations: terms against NumPy, and who learns from whom."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nas_kd.engine.training import Training
from nas_kd.errors import InputError
from nas_kd.methods.base import Outputs
from nas_kd.methods.combine import make_method
from nas_kd.methods.self_distillation.bake import propagated

from .conftest import setup_of
from .observed import LADDER_ENDS, attached, cross_entropy, exact, finite, on_ladder
from .toys import Array, batch_of, kl, outputs, softmax


@pytest.mark.parametrize(
    ("b", "kind", "temperature"), [(2, "resnet", None), (6, "resnet", 1.0), (5, "mobilenet", None)]
)
def test_byot(b: int, kind: str, temperature: float | None) -> None:
    o = attached("byot", b, kind, temperature)
    t, y = temperature or 3.0, o.batch.y.numpy()
    exits = list(o.method.get_submodule("exits").children())
    assert len(exits) == len(o.student.features) - 1
    shown = [leave(f) for leave, f in zip(exits, o.student.features[:-1], strict=True)]
    z, f = [exact(logits) for logits, _ in shown], [exact(feature) for _, feature in shown]
    last, embedding = softmax(exact(o.student.logits), t), exact(o.student.embedding)
    assert {k: v.item() for k, v in o.terms().items()} == {
        "byot_ce": pytest.approx(0.7 * sum(cross_entropy(a, y) for a in z), rel=1e-4),
        "byot": pytest.approx(0.3 * t**2 * sum(kl(last, softmax(a, t)) for a in z), rel=1e-4),
        "byot_feature": pytest.approx(0.03 * sum(((a - embedding) ** 2).sum() / b for a in f), rel=1e-4),
    }


def test_an_exit_pools_convolves_normalises_and_classifies() -> None:
    o = attached("byot", 3)
    leave = o.method.get_submodule("exits.0")
    f = exact(o.student.features[0])
    size = o.student.features[-1].shape[2]
    cell = f.shape[2] // size
    pooled = f.reshape(*f.shape[:2], size, cell, size, cell).mean(axis=(3, 5))
    padded = np.pad(pooled, ((0, 0), (0, 0), (1, 1), (1, 1)))
    weight = exact(leave.get_parameter("convolution.weight"))
    y = sum(
        np.einsum("oc,bchw->bohw", weight[:, :, i, j], padded[:, :, i : i + size, j : j + size])
        for i in range(3)
        for j in range(3)
    )
    assert isinstance(y, np.ndarray)
    mean, variance = y.mean(axis=(0, 2, 3), keepdims=True), y.var(axis=(0, 2, 3), keepdims=True)
    embedding = np.maximum(0, (y - mean) / np.sqrt(variance + 1e-5)).mean(axis=(2, 3))
    logits = embedding @ exact(leave.get_parameter("classifier.weight")).T
    logits += exact(leave.get_parameter("classifier.bias"))
    given_logits, given_embedding = leave(o.student.features[0])
    assert exact(given_embedding) == pytest.approx(embedding, rel=1e-3, abs=1e-5)
    assert exact(given_logits) == pytest.approx(logits, rel=1e-3, abs=1e-4)


def test_byot_teaches_the_exits_and_what_comes_before_them_alone() -> None:
    o = attached("byot")
    body = o.training.student.get_submodule("body")
    modules = {name: body.get_submodule(name) for name in ("stem", "stages.1", "stages.2", "classifier")}
    modules |= {f"exit {i}": e for i, e in enumerate(o.method.get_submodule("exits").children())}
    for term in ("byot_ce", "byot", "byot_feature"):
        assert o.reached(term, modules) == {"stem", "stages.1", "exit 0", "exit 1"}


def mixed_by_hand(p: Array, embedding: Array, share: float) -> Array:
    """The series (1 - w) sum_k (w A)^k P, entry by entry."""
    n = len(p)
    unit = embedding / np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-12)
    a = np.zeros((n, n))
    for i in range(n):
        others = [np.exp(unit[i] @ unit[k]) for k in range(n) if k != i]
        for j in range(n):
            a[i, j] = 0.0 if i == j else np.exp(unit[i] @ unit[j]) / sum(others)
    total, power = np.zeros_like(p), p.copy()
    for _ in range(80):
        total, power = total + (1 - share) * power, share * (a @ power)
    return total


@pytest.mark.parametrize(("b", "c", "temperature"), [(2, 3, 4.0), (7, 10, 1.0), (12, 4, 2.0)])
def test_bake(b: int, c: int, temperature: float) -> None:
    s = outputs(0, b, c, embedding=5)
    p = softmax(s.logits.numpy(), temperature)
    q = mixed_by_hand(p, s.embedding.numpy(), 0.5)
    assert q.sum(axis=1) == pytest.approx(1.0)
    assert make_method("bake", temperature)(s, [], batch_of(b, c))["bake"].item() == pytest.approx(
        temperature**2 * kl(q, p), rel=1e-6
    )


def test_bake_is_4_degrees_and_takes_half_from_others() -> None:
    method = make_method("bake")
    assert (method.temperature, vars(type(method))["share"]) == (4.0, 0.5)


def test_bake_holds_targets_fixed() -> None:
    s = outputs(0, 5, 4, embedding=3)
    s = s._replace(logits=s.logits.requires_grad_(), embedding=s.embedding.requires_grad_())
    p = softmax(exact(s.logits), 4.0)
    q = mixed_by_hand(p, exact(s.embedding), 0.5)
    make_method("bake")(s, [], batch_of(5, 4))["bake"].backward()
    assert s.embedding.grad is None
    assert s.logits.grad is not None
    assert s.logits.grad.numpy() == pytest.approx(4.0 * (p - q) / 5, abs=1e-9)  # of T^2 KL with q fixed


@pytest.mark.parametrize("embedding", [torch.zeros(4, 3), torch.ones(4, 3), torch.full((4, 0), 0.0)])
def test_bake_with_collapsed_embeddings_mixes_evenly(embedding: Tensor) -> None:
    p = torch.eye(4)
    q = propagated(p, embedding, 0.5)
    assert q.diagonal().tolist() == pytest.approx([q[0, 0].item()] * 4)
    assert exact(q) == pytest.approx(mixed_by_hand(np.eye(4), np.ones((4, 1)), 0.5), abs=1e-6)


def test_bake_a_sample_alone_has_only_itself() -> None:
    s = Outputs(torch.randn(1, 4, requires_grad=True), (), torch.randn(1, 3))
    loss = make_method("bake")(s, [], batch_of(1, 4))["bake"]
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-5)  # the temperature's square times what float32 leaves


def test_bake_survives_logits_far_apart() -> None:
    s = Outputs(torch.tensor([[9000.0, 0.0], [9000.0, 0.0]], requires_grad=True), (), torch.ones(2, 3))
    loss = make_method("bake")(s, [], batch_of(2, 2))["bake"]
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert s.logits.grad is not None
    assert bool(torch.isfinite(s.logits.grad).all())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 2**31))
def test_bake_shows_every_sample_once_in_pairs_of_a_class(labels: list[int], seed: int) -> None:
    y = torch.tensor(labels)
    order = make_method("bake").order(y, torch.Generator().manual_seed(seed))
    assert sorted(order.tolist()) == list(range(len(y)))
    pairs = sum(labels.count(c) // 2 for c in set(labels))
    shown = y[order]
    assert torch.equal(shown[0 : 2 * pairs : 2], shown[1 : 2 * pairs : 2])
    assert len(set(shown[2 * pairs :].tolist())) == len(y) - 2 * pairs


def test_bake_orders_differ_by_epoch_and_follow_from_the_generator() -> None:
    y = torch.arange(60) % 3
    orders = [make_method("bake").order(y, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1])
    partners = [{frozenset(pair) for pair in o.view(-1, 2).tolist()} for o in orders]
    assert len(partners[0] & partners[2]) < 15  # other partners, not only another order of the same pairs
    assert len(set(y[orders[0]][::2].tolist()[:10])) > 1


@pytest.mark.parametrize("b", [2, 6])
def test_born_again(b: int) -> None:
    s, t = outputs(0, b, 5), outputs(1, b, 5)
    method = make_method("born_again")
    assert (method.temperature, method.ce_weight, method.generations, method.teachers) == (1.0, 1.0, 2, "one")
    expected = kl(softmax(t.logits.numpy(), 1.0), softmax(s.logits.numpy(), 1.0))
    assert method(s, [t], batch_of(b, 5))["born_again"].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["bake", "born_again"])
def test_gradients(name: str) -> None:
    s, t, batch = outputs(0, 4, 3, embedding=2), outputs(1, 4, 3), batch_of(4, 3)
    method, target = make_method(name, 2.0), s.logits.clone()
    logits = s.logits.clone().requires_grad_()
    loss = method(s._replace(logits=logits), [t], batch)[name]
    (given_gradient,) = torch.autograd.grad(loss, logits)
    p = softmax(exact(logits), 2.0)
    q = mixed_by_hand(softmax(exact(target), 2.0), exact(s.embedding), 0.5) if name == "bake" else None
    q = softmax(exact(t.logits), 2.0) if q is None else q
    assert given_gradient.numpy() == pytest.approx(2.0 * (p - q) / 4, abs=1e-9)


@pytest.mark.parametrize("name", ["byot", "bake"])
@pytest.mark.parametrize(("space", "shape", "rung"), LADDER_ENDS)
def test_smallest_and_largest_students(name: str, space: str, shape: tuple[int, int, int], rung: int) -> None:
    assert finite(on_ladder(name, space, shape, rung))


def test_byot_survives_equal_samples() -> None:
    o = attached("byot", 2)
    o.student = Outputs(
        torch.tensor([[900.0] + [-900.0] * 9] * 2, requires_grad=True),
        tuple(f[:1].expand_as(f).detach().requires_grad_() for f in o.student.features),
        torch.zeros_like(o.student.embedding),
    )
    terms = o.terms()
    assert all(bool(torch.isfinite(term)) for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in o.method.parameters())


class OneStage(nn.Module):
    """A single feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.head = nn.Conv2d(1, 4, 3, 1, 1), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.convolution(x / 255)).mean(dim=(2, 3)))
        return out


def test_one_stage_is_said_before_anything_is_trained() -> None:
    setup = replace(setup_of(), calibrated=False)
    with pytest.raises(InputError, match="needs a student with two stages or more; this one has 1"):
        Training(OneStage(), [], make_method("byot"), setup, lambda _: OneStage())
