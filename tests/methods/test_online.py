"""Peers and branches: terms against NumPy, who learns from which of them, and what they leave alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_kd.data.dataset import Split
from nas_kd.engine.method_setup import MethodSetup
from nas_kd.engine.training import Training
from nas_kd.errors import InputError
from nas_kd.methods.base import Outputs
from nas_kd.methods.combine import make_method
from nas_kd.methods.online.dml import _from_others
from nas_kd.methods.online.one import ramp

from .conftest import FP32, SMALL, build, digits, setup_of
from .observed import LADDER_ENDS, Observed, attached, cross_entropy, exact, finite, on_ladder
from .toys import Array, kl, softmax

ONLINE = ["dml", "one", "okddip"]


def branch_logits(o: Observed) -> list[Array]:
    """Of the student's own tail and of the branches, each run by hand."""
    branches = o.method.get_submodule("branches")
    features = o.student.features[branches.stage]  # type: ignore[index]
    return [exact(o.student.logits), *(exact(tail(features.clone())) for tail in branches.get_submodule("tails"))]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("b", "temperature"), [(2, 1.0), (6, None), (5, 3.0)])
def test_dml(b: int, temperature: float | None) -> None:
    o = attached("dml", b, temperature=temperature)
    t = o.method.temperature
    z = [exact(o.student.logits), *(exact(peer(o.batch.x)) for peer in o.method.peers())]
    p = [softmax(logits, t) for logits in z]
    mutual = [t**2 * np.mean([kl(p[j], p[k]) for j in range(3) if j != k]) for k in range(3)]
    terms = {k: v.item() for k, v in o.terms().items()}
    assert terms == {
        "dml": pytest.approx(mutual[0], rel=1e-4),
        "dml_peers": pytest.approx(mutual[1] + mutual[2], rel=1e-4),
        "dml_peers_ce": pytest.approx(sum(cross_entropy(logits, o.batch.y.numpy()) for logits in z[1:]), rel=1e-5),
    }
    assert t == (temperature or 1.0)


def test_dml_targets_are_held_fixed_both_ways() -> None:
    o = attached("dml")
    networks = {"student": o.training.student, **{f"peer {i}": p for i, p in enumerate(o.method.peers())}}
    assert o.reached("dml", networks) == {"student"}
    assert o.reached("dml_peers", networks) == {"peer 0", "peer 1"}
    assert o.reached("dml_peers_ce", networks) == {"peer 0", "peer 1"}


def test_dml_runs_each_peer_once_and_they_differ() -> None:
    o = attached("dml")
    calls: list[nn.Module] = []
    handles = [p.register_forward_hook(lambda module, *_: calls.append(module)) for p in o.method.peers()]
    o.terms()
    for handle in handles:
        handle.remove()
    assert calls == list(o.method.peers())
    weights = [torch.cat([w.flatten() for w in n.parameters()]) for n in (o.training.student, *o.method.peers())]
    assert not any(torch.equal(weights[i], weights[j]) for i, j in [(0, 1), (0, 2), (1, 2)])


def test_dml_deploys_the_best_of_the_three() -> None:
    training = attached("dml").training
    peer = training.method.peers()[1]
    x = digits().val.x[:64]
    with torch.no_grad():
        says = peer.eval()(x.float()).argmax(dim=1)
    deployed, accuracy = training.deployed(Split(x, says))  # labels that only this peer knows
    assert accuracy == 1.0
    stems = [network.get_submodule("body.stem").state_dict() for network in (deployed, peer)]
    assert all(torch.equal(stems[0][k], stems[1][k]) for k in stems[0])


def test_mutual_learning_in_float64() -> None:
    rng = np.random.default_rng(0)
    z = [rng.normal(size=(2, 4)) * 3 for _ in range(4)]
    expected = 4 * np.mean([kl(softmax(z[j], 2.0), softmax(z[1], 2.0)) for j in (0, 2, 3)])
    tensors = [torch.from_numpy(a) for a in z]
    assert _from_others(tensors, 1, 2.0, None).item() == pytest.approx(expected, rel=1e-12)
    own = tensors[1].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: _from_others([tensors[0], v, *tensors[2:]], 1, 2.0, None), (own,))


@pytest.mark.parametrize(("epoch", "expected"), [(0, np.exp(-5)), (40, np.exp(-1.25)), (80, 1.0), (300, 1.0)])
def test_one_ramps_up_over_80_of_300_epochs(epoch: int, expected: float) -> None:
    assert ramp(epoch / 300) == pytest.approx(expected)


@pytest.mark.parametrize(("b", "kind", "epoch"), [(2, "resnet", 300), (6, "resnet", 40), (5, "mobilenet", 0)])
def test_one(b: int, kind: str, epoch: int) -> None:
    o = attached("one", b, kind)
    o.batch = o.batch._replace(progress=epoch / 300)
    z, y = branch_logits(o), o.batch.y.numpy()
    gate = o.method.get_submodule("gate")
    pooled = exact(o.student.features[o.method.branches.stage]).mean(axis=(2, 3))  # type: ignore[union-attr,index]
    scores = pooled @ exact(gate.get_parameter("0.weight")).T
    shares = softmax(np.maximum(0, (scores - scores.mean(axis=0)) / np.sqrt(scores.var(axis=0) + 1e-5)), 1.0)
    assert np.ptp(shares, axis=0).max() > 0.1  # samples differ in the branches that they trust
    ensemble = sum(shares[:, [i]] * z[i] for i in range(3))
    w = 9 * np.exp(-5 * (1 - min(1, epoch / 80)) ** 2)
    learnt = [w * kl(softmax(ensemble, 3.0), softmax(own, 3.0)) for own in z]
    assert {k: v.item() for k, v in o.terms().items()} == {
        "one": pytest.approx(learnt[0], rel=1e-4),
        "one_branches": pytest.approx(learnt[1] + learnt[2], rel=1e-4),
        "one_ce": pytest.approx(cross_entropy(ensemble, y) + sum(cross_entropy(a, y) for a in z[1:]), rel=1e-5),
    }


def modules_of(o: Observed) -> dict[str, nn.Module]:
    body = o.training.student.get_submodule("body")
    method = o.method
    named: dict[str, nn.Module] = {"trunk": body.get_submodule("stem"), "tail": body.get_submodule("classifier")}
    named |= {"branches": method.get_submodule("branches")}
    return named | {k: m for k, m in method.named_children() if k != "branches"}


def test_one_labels_train_all_of_it_and_the_ensemble_is_no_pupil() -> None:
    o = attached("one")
    modules = modules_of(o)
    assert o.reached("one_ce", modules) == {"trunk", "tail", "branches", "gate"}
    assert o.reached("one", modules) == {"trunk", "tail"}
    assert o.reached("one_branches", modules) == {"trunk", "branches"}


@pytest.mark.parametrize(("b", "kind", "epoch"), [(2, "resnet", 300), (6, "mobilenet", 40)])
def test_okddip(b: int, kind: str, epoch: int) -> None:
    o = attached("okddip", b, kind)
    o.batch = o.batch._replace(progress=epoch / 300)
    leader, *z = branch_logits(o)
    h = [exact(embedding(o, i)) for i in range(3)]
    left, right = (exact(o.method.get_parameter(f"{side}.weight")) for side in ("left", "right"))
    q = [softmax(a, 3.0) for a in z]
    learnt = 0.0
    for a in range(3):
        scores = np.stack([((h[a] @ left.T) * (h[c] @ right.T)).sum(axis=1) for c in range(3)], axis=1)
        mixed = sum(softmax(scores, 1.0)[:, [c]] * q[c] for c in range(3))
        learnt += 9 * kl(np.asarray(mixed), q[a])
    weight = np.exp(-5 * (1 - min(1, epoch / 80)) ** 2)
    assert {k: v.item() for k, v in o.terms().items()} == {
        "okddip": pytest.approx(weight * 9 * kl(np.mean(q, axis=0), softmax(leader, 3.0)), rel=1e-4),
        "okddip_peers": pytest.approx(weight * learnt, rel=1e-4),
        "okddip_ce": pytest.approx(sum(cross_entropy(a, o.batch.y.numpy()) for a in z), rel=1e-5),
    }


def embedding(o: Observed, branch: int) -> Tensor:
    """What the branch's classifier reads."""
    tail = o.method.get_submodule(f"branches.tails.{branch}")
    read: list[Tensor] = []
    handle = tail.get_submodule("body.classifier").register_forward_pre_hook(lambda _m, x: read.append(x[0]))
    tail(o.student.features[o.method.branches.stage].clone())  # type: ignore[union-attr,index]
    handle.remove()
    return read[0]


def test_okddip_trains_its_attention_and_the_leader_teaches_nobody() -> None:
    o = attached("okddip")
    modules = modules_of(o)
    assert o.reached("okddip", modules) == {"trunk", "tail"}
    assert o.reached("okddip_peers", modules) == {"trunk", "branches", "left", "right"}
    assert o.reached("okddip_ce", modules) == {"trunk", "branches"}


@pytest.mark.parametrize("name", ONLINE)
@pytest.mark.parametrize(("space", "shape", "rung"), LADDER_ENDS)
def test_smallest_and_largest_students(name: str, space: str, shape: tuple[int, int, int], rung: int) -> None:
    o = on_ladder(name, space, shape, rung)
    before = [f.clone() for f in o.student.features]
    assert finite(o)
    assert all(torch.equal(a, b) for a, b in zip(before, o.student.features, strict=True))


@pytest.mark.parametrize("name", ONLINE)
def test_what_trains_the_methods_own_is_not_scaled_by_strength(name: str) -> None:
    o = attached(name)
    weak = attached(name)
    weak.method.strength = 0.0
    loss, terms = weak.training.loss(weak.student, weak.teachers, weak.batch)
    own = [v for k, v in terms.items() if k == "ce" or k in weak.method.unscaled_terms]
    assert loss.item() == pytest.approx(torch.stack(own).sum().item())
    full, terms = o.training.loss(o.student, o.teachers, o.batch)
    assert full.item() == pytest.approx(torch.stack(list(terms.values())).sum().item())


class InPlaceFirst(nn.Module):
    """What comes behind the first stage begins with an operation in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 2, 1)
        self.head = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x / 255).mul_(2))
        out: Tensor = self.head(x.mean(dim=(2, 3)))
        return out


@pytest.mark.parametrize("name", ["one", "okddip"])
def test_a_tail_that_works_in_place_spoils_nobodys_features(name: str) -> None:
    setup = replace(setup_of(epochs=1), calibrated=False)
    training = Training(InPlaceFirst(), [], make_method(name), setup, lambda _: InPlaceFirst())
    training.run()
    assert all(np.isfinite(v) for v in training.losses.values())


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(x.flatten(1))
        return out


@pytest.mark.parametrize("name", ["one", "okddip"])
def test_a_student_without_feature_maps_has_nothing_to_branch_from(name: str) -> None:
    setup = setup_of()
    attachment = MethodSetup(Flat(), [], make_method(name), FP32, setup.source.augmenter.example())
    with pytest.raises(InputError, match=f"method '{name}' branches behind a feature map, and the student has none"):
        attachment.attach(setup.dataset, lambda _: Flat(), 0)


@pytest.mark.parametrize("name", ONLINE)
def test_equal_samples_and_logits_far_apart_stay_finite(name: str) -> None:
    o = attached(name, 2)
    o.batch = o.batch._replace(x=o.batch.x[:1].expand(2, -1, -1, -1))
    o.student = Outputs(
        torch.tensor([[900.0] + [-900.0] * 9] * 2, requires_grad=True),
        tuple(f[:1].expand_as(f).detach() for f in o.student.features),
        o.student.embedding.detach(),
    )
    assert all(bool(torch.isfinite(term)) for term in o.terms().values())
    torch.stack(list(o.terms().values())).sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in o.method.parameters() if p.grad is not None)


def test_branches_are_the_layers_behind_the_last_stage_but_one() -> None:
    o = attached("one")
    own = {k for k, _ in build("resnet", SMALL, 0).named_parameters()}
    for tail in o.method.get_submodule("branches.tails").children():
        names = {k for k, _ in tail.named_parameters()}
        assert names == {k for k in own if k.startswith(("body.stages.2", "body.classifier"))}
