"""The sandwich rule: whose losses it sums, worked out in NumPy, and whom it refuses."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from nas_kd.errors import InputError
from nas_kd.methods.base import Outputs
from nas_kd.methods.sandwich import InPlaceDistillation, Sandwich
from nas_kd.models.search_space import load_space
from nas_kd.models.supernet import Supernet
from nas_kd.results.candidate import Architecture

from .toys import batch_of, kl, outputs, setting_of, softmax


def test_the_mean_over_all_networks_of_the_soft_target_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {name: outputs(seed, 6, 5, []).logits for seed, name in enumerate(("small", "one", "two"))}
    pool = [Architecture("toy", {"name": name}) for name in ("one", "two")]
    method = Sandwich(Architecture("toy", {"name": "small"}), pool, n_random=2)
    asked: list[str] = []

    def logits(architecture: Architecture, _x: Tensor) -> Tensor:
        asked.append(str(architecture.choices["name"]))
        return said[asked[-1]]

    monkeypatch.setattr(method, "_logits", logits)
    student, teacher, batch = outputs(7, 6, 5, []), outputs(8, 6, 5, []), batch_of(6, 5)
    terms = method(student, [teacher], batch)
    assert asked[0] == "small"
    assert len(asked) == 3
    taught = softmax(teacher.logits.numpy(), 4.0)
    shown = [student.logits.numpy(), *(said[name].numpy() for name in asked)]
    labels = [-float(torch.log_softmax(torch.tensor(s), 1)[range(6), batch.y].mean()) for s in shown]
    assert terms["sandwich_ce"].item() == pytest.approx(0.1 * sum(labels) / 4)
    assert terms["sandwich"].item() == pytest.approx(0.9 * sum(16 * kl(taught, softmax(s, 4.0)) for s in shown) / 4)


def test_in_place_the_others_learn_from_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {name: outputs(seed, 6, 5, []).logits for seed, name in enumerate(("small", "one", "two"))}
    pool = [Architecture("toy", {"name": name}) for name in ("one", "two")]
    method = InPlaceDistillation(Architecture("toy", {"name": "small"}), pool, n_random=2)
    asked: list[str] = []

    def logits(architecture: Architecture, _x: Tensor) -> Tensor:
        asked.append(str(architecture.choices["name"]))
        return said[asked[-1]].requires_grad_(True)

    monkeypatch.setattr(method, "_logits", logits)
    student = outputs(7, 6, 5, [])
    student = student._replace(logits=student.logits.requires_grad_(True))
    (term,) = method(student, [], batch_of(6, 5)).values()
    taught = softmax(student.logits.detach().numpy(), 4.0)
    expected = [16 * kl(taught, softmax(said[name].detach().numpy(), 4.0)) for name in asked]
    assert (asked[0], len(asked), method.ce_weight) == ("small", 3, 1.0)
    assert term.item() == pytest.approx(sum(expected) / 3)
    term.backward()
    assert student.logits.grad is None
    assert said["small"].grad is not None


def test_it_draws_from_the_pool_by_torchs_generator() -> None:
    pool = [Architecture("toy", {"number": i}) for i in range(50)]
    method = Sandwich(pool[0], pool, n_random=8)
    torch.manual_seed(3)
    first = method._draw()
    torch.manual_seed(3)
    assert method._draw() == first
    assert len({a.choices["number"] for a in first}) > 3


def test_another_student_is_refused() -> None:
    space = load_space("resnet")
    method = Sandwich(space.size_ladder(2)[0], space.size_ladder(3), n_random=2)
    student = outputs(0, 2, 5, [])
    with pytest.raises(InputError, match="elastic"):
        method.attach(setting_of(student, [student]))


def test_it_runs_the_student_as_its_sub_networks() -> None:
    space = load_space("resnet")
    ladder = space.size_ladder(3)
    elastic = Supernet(lambda a: space.build(a, (3, 8, 8), 5), ladder[-1], ladder[1])
    method = Sandwich(ladder[0], [ladder[1]], n_random=2)

    class Seen:
        student = elastic
        example = torch.randn(2, 3, 8, 8)

        @staticmethod
        def observe(model: Any, _example: Tensor) -> Any:
            return lambda x: Outputs(model(x), (), x[:, :0])

    method.attach(cast(Any, Seen))
    x, y = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    batch = batch_of(4, 5)._replace(x=x, y=y)
    terms = method(Outputs(elastic(x), (), x[:, :0]), [outputs(1, 4, 5, [])], batch)
    sum(terms.values(), torch.zeros(())).backward()
    assert not list(method.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in elastic.parameters())
