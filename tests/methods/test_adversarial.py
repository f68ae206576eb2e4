"""Discriminators: terms against NumPy, gradients that go to one side alone, and verdicts that stay gentle."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_kd.engine.method_setup import MethodSetup
from nas_kd.errors import InputError
from nas_kd.methods.adversarial.adversarial_logits import apply_frozen, discriminator_loss
from nas_kd.methods.adversarial.adversarial_online import Discriminator
from nas_kd.methods.base import Method, Outputs
from nas_kd.methods.combine import make_method

from .conftest import FP32, setup_of
from .observed import LADDER_ENDS, attached, cross_entropy, exact, finite, on_ladder
from .toys import Array, batch_of, kl, outputs, setting_of, softmax


def logits_method(s: Outputs, t: Outputs) -> Method:
    torch.manual_seed(0)
    method = make_method("adversarial_logits")
    method.attach(setting_of(s, [t]))
    return method.double()


def says(method: Method, logits: Array) -> Array:
    """The discriminator's verdicts, layer by layer."""
    linear = [m for m in method.get_submodule("discriminator").children() if isinstance(m, nn.Linear)]
    h = logits
    for i, layer in enumerate(linear):
        h = h @ exact(layer.weight).T + exact(layer.bias)
        if i < len(linear) - 1:
            h = np.where(h > 0, h, 0.2 * h)
    return h


def binary(score: Array, real: bool) -> float:
    p = 1 / (1 + np.exp(-score))
    return float(-np.log(p if real else 1 - p).mean())


@pytest.mark.parametrize(("b", "c"), [(2, 3), (6, 10)])
def test_adversarial_logits(b: int, c: int) -> None:
    s, t, batch = outputs(0, b, c), outputs(1, b, c), batch_of(b, c)
    method = logits_method(s, t).eval()  # outside of training the norms' estimates stay as they are
    z_s, z_t, y = s.logits.numpy(), t.logits.numpy(), batch.y.numpy()
    on_s, on_t = says(method, z_s), says(method, z_t)
    assert on_s.shape == (b, 1 + c)
    classes = {k: cross_entropy(v[:, 1:], y) for k, v in (("s", on_s), ("t", on_t))}
    assert {k: v.item() for k, v in method(s, [t], batch).items()} == {
        "adversarial_logits_l1": pytest.approx(np.abs(z_s - z_t).sum() / (b * c)),
        "adversarial_logits_fooling": pytest.approx(binary(on_s[:, 0], True) + classes["s"]),
        "adversarial_logits_discriminator": pytest.approx(
            binary(on_t[:, 0], True) + binary(on_s[:, 0], False) + classes["s"] + classes["t"]
        ),
    }


def test_each_term_of_adversarial_logits_trains_one_side() -> None:
    s, t, batch = outputs(0, 4, 3), outputs(1, 4, 3), batch_of(4, 3)
    method = logits_method(s, t)
    sides = {}
    for name in method(s, [t], batch):
        method.zero_grad()
        student, teacher = (o.logits.clone().requires_grad_() for o in (s, t))
        taught = [t._replace(logits=teacher.detach())]
        method(s._replace(logits=student), taught, batch)[name].backward()
        trained = any(p.grad is not None for p in method.parameters())
        sides[name.removeprefix("adversarial_logits_")] = (student.grad is not None, trained)
        assert teacher.grad is None
    assert sides == {"l1": (True, False), "fooling": (True, False), "discriminator": (False, True)}


def test_the_discriminator_learns_to_tell_and_sends_the_student_towards_the_teacher() -> None:
    s, t = outputs(0, 32, 3), outputs(1, 32, 3)
    t = t._replace(logits=t.logits + torch.tensor([6.0, 6.0, 0.0]))
    batch, method = batch_of(32, 3), logits_method(s, t)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
    for _ in range(60):
        optimizer.zero_grad()
        method(s, [t], batch)["adversarial_logits_discriminator"].backward()
        optimizer.step()
    right = (says(method.eval(), t.logits.numpy())[:, 0] > 0).mean() + (says(method, s.logits.numpy())[:, 0] < 0).mean()
    assert right / 2 > 0.9
    logits = s.logits.clone().requires_grad_()
    method(s._replace(logits=logits), [t], batch)["adversarial_logits_fooling"].backward()
    assert logits.grad is not None
    assert logits.grad.sum(dim=0)[:2].max() < 0  # a step against the gradient raises the first two logits


def test_the_discriminators_pull_is_bounded_however_sure_it_is() -> None:
    s, t, batch = outputs(0, 8, 3), outputs(1, 8, 3), batch_of(8, 3)
    method = logits_method(s, t)
    with torch.no_grad():
        for p in method.parameters():
            p.mul_(1000 if p.dim() > 1 else 1)
    for _ in range(30):  # the norms are estimated step by step
        method(s, [t], batch)
    logits = s.logits.clone().requires_grad_()
    method(s._replace(logits=logits), [t], batch)["adversarial_logits_fooling"].backward()
    assert logits.grad is not None
    assert logits.grad.norm(dim=1).max() < 3 / 8  # of a mean over 8 samples; cross-entropy's own is up to sqrt(2) / 8


def test_logits_far_apart_stay_finite() -> None:
    s = Outputs(torch.tensor([[900.0, -900.0, 0.0]] * 2, requires_grad=True), (), torch.zeros(2, 0))
    t = Outputs(-s.logits.detach(), (), s.embedding)
    method = logits_method(s, t).float()
    loss = torch.stack(list(method(s, [t], batch_of(2, 3)).values())).sum()
    loss.backward()
    assert s.logits.grad is not None
    assert bool(torch.isfinite(loss) and torch.isfinite(s.logits.grad).all())


def test_frozen_gives_what_the_module_gives_and_trains_nothing_of_it() -> None:
    module, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double(), torch.randn(5, 3).double()
    assert torch.equal(apply_frozen(module, x), module(x))
    assert torch.autograd.gradcheck(lambda v: apply_frozen(module, v), (x.requires_grad_(),))
    apply_frozen(module, x).sum().backward()
    assert all(p.grad is None and p.requires_grad for p in module.parameters())


def test_verdicts_have_a_smooth_loss() -> None:
    verdicts = torch.randn(4, 1 + 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 2, 1, 1])
    batch = batch_of(4, 3)._replace(y=labels, class_weights=torch.tensor([1.0, 2.0, 3.0]))  # which do not count here
    assert torch.autograd.gradcheck(lambda v: discriminator_loss(v, batch, 1.0), (verdicts,))
    v = exact(verdicts)
    expected = binary(v[:, 0], False) + cross_entropy(v[:, 1:], labels.numpy())
    assert discriminator_loss(verdicts, batch, 0.0).item() == pytest.approx(expected)


def verdict(module: nn.Module, f: Array) -> Array:
    """A discriminator of feature maps, by hand: (B, c, h, w) -> (B,)."""
    first, second = module.get_submodule("first"), module.get_submodule("second")
    weight, size = exact(first.weight), f.shape[2:]  # type: ignore[arg-type]
    padded = np.pad(f, ((0, 0), (0, 0), (1, 1), (1, 1)))
    hidden = sum(
        np.einsum("oc,bchw->bohw", weight[:, :, i, j], padded[:, :, i : i + size[0], j : j + size[1]])
        for i in range(3)
        for j in range(3)
    )
    hidden = hidden + exact(first.bias)[:, None, None]  # type: ignore[arg-type]
    hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
    scores = np.einsum("c,bchw->bhw", exact(second.weight)[0, :, 0, 0], hidden) + exact(second.bias)  # type: ignore[arg-type]
    return np.asarray(1 / (1 + np.exp(-scores.mean(axis=(1, 2)))))


@pytest.mark.parametrize(("b", "kind", "temperature"), [(2, "resnet", None), (6, "mobilenet", 1.0)])
def test_adversarial_online(b: int, kind: str, temperature: float | None) -> None:
    o = attached("adversarial_online", b, kind, temperature)
    t, y = temperature or 3.0, o.batch.y.numpy()
    peer, discriminators = o.method.get_submodule("peer"), o.method.get_submodule("discriminators")
    discriminators.eval()
    found: list[Tensor] = []
    last = "body.stages.2" if kind == "resnet" else "body.head"
    handle = peer.get_submodule(last).register_forward_hook(lambda _m, _x, out: found.append(out))
    z_s, z_p = exact(o.student.logits), exact(peer(o.batch.x))
    handle.remove()
    p_s, p_p = softmax(z_s, t), softmax(z_p, t)
    f_s, f_p = exact(o.student.features[-1]), exact(found[0])
    (own_s, own_p), (other_s, other_p) = (
        [verdict(d, f) for d, f in zip(discriminators.children(), maps, strict=True)]
        for maps in ((f_s, f_p), (f_p, f_s))
    )
    told = [((1 - other) ** 2).mean() + (own**2).mean() for own, other in ((own_s, other_s), (own_p, other_p))]
    expected = {
        "kl": t**2 * kl(p_p, p_s),
        "peer_kl": t**2 * kl(p_s, p_p),
        "fooling": 0.1 * ((1 - own_s) ** 2).mean(),
        "peer_fooling": 0.1 * ((1 - own_p) ** 2).mean(),
        "peer_ce": cross_entropy(z_p, y),
        "discriminators": sum(told),
    }
    terms = {k.removeprefix("adversarial_online_"): v.item() for k, v in o.terms().items()}
    assert terms == {k: pytest.approx(v, rel=1e-4) for k, v in expected.items()}


def test_each_term_of_adversarial_online_trains_one_side() -> None:
    o = attached("adversarial_online")
    modules = {"student": o.training.student, "peer": o.method.get_submodule("peer")}
    modules |= {
        f"D {name}": d for name, d in zip("sp", o.method.get_submodule("discriminators").children(), strict=True)
    }
    sides = {name.removeprefix("adversarial_online_"): o.reached(name, modules) for name in o.terms()}
    assert sides == {
        "kl": {"student"},
        "peer_kl": {"peer"},
        "fooling": {"student"},
        "peer_fooling": {"peer"},
        "peer_ce": {"peer"},
        "discriminators": {"D s", "D p"},
    }
    assert o.method.unscaled_terms == {"adversarial_online_peer_ce", "adversarial_online_discriminators"}
    assert list(o.method.peers()) == [modules["peer"]]


@pytest.mark.parametrize(("space", "shape", "rung"), LADDER_ENDS)
def test_smallest_and_largest_students(space: str, shape: tuple[int, int, int], rung: int) -> None:
    assert finite(on_ladder("adversarial_online", space, shape, rung))


def test_a_discriminator_of_maps_stays_between_0_and_1() -> None:
    discriminator = Discriminator(4)
    for scale in (0.0, 1.0, 1e6):
        f = (torch.randn(3, 4, 2, 2) * scale).requires_grad_()
        shown = discriminator(f)
        assert shown.shape == (3,)
        assert bool(((shown >= 0) & (shown <= 1)).all())
        shown.sum().backward()
        assert f.grad is not None
        assert bool(torch.isfinite(f.grad).all())


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(x.flatten(1))
        return out


def test_a_student_without_feature_maps_has_nothing_to_compare() -> None:
    setup = setup_of()
    attachment = MethodSetup(Flat(), [], make_method("adversarial_online"), FP32, setup.source.augmenter.example())
    with pytest.raises(InputError, match="'adversarial_online' compares feature maps, and the student has none"):
        attachment.attach(setup.dataset, lambda _: Flat(), 0)
