"""One's own modules that return more than their logits, or are scripted, traced or in another precision."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas_kd.api.content_identity import module_identity
from nas_kd.api.in_memory import teacher_options
from nas_kd.commands.distill_modules import distill
from nas_kd.context.callbacks import Callback
from nas_kd.plugins import load

from .toys import Net, net, same, samples, state


class Returns(nn.Module):
    """Wraps the network's logits in something."""

    def __init__(self, inner: Net, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.inner(x))


def learnt(student: nn.Module, teacher: nn.Module, method: str = "soft_targets") -> nn.Module:
    return distill(student, teacher, train=samples(), val=samples(48, seed=1), method=method, epochs=2, batch_size=16)


@pytest.mark.parametrize("method", ["soft_targets", "similarity", "born_again"])
def test_what_is_returned_beside_the_logits_makes_no_difference(method: str) -> None:
    student, teacher = net(), net(8, seed=3).eval()
    plain = distill(student, *([] if method == "born_again" else [teacher]), train=samples(), method=method, epochs=2)
    other = Returns(net(), lambda z: (z, {"features": [z]}))
    more = [] if method == "born_again" else [Returns(teacher, lambda z: {"aux": 2 * z, "logits": z})]
    found = distill(other, *more, train=samples(), method=method, epochs=2)
    assert found is other
    assert same(state(plain), state(found.inner))
    assert not any(module.training for module in other.modules())


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_teachers_of_another_precision_stay_as_they_were(kind: torch.dtype) -> None:
    teacher = net(8, seed=3).to(kind)
    before = state(teacher)
    student = learnt(net(), teacher)
    assert same(before, state(teacher))
    assert teacher.head.weight.dtype == kind
    if kind is torch.float64:
        assert same(state(student), state(learnt(net(), net(8, seed=3))))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_scripted_teachers() -> None:
    teacher = net(8, seed=3).eval()
    scripted = torch.jit.script(teacher)
    student, expected = learnt(net(), scripted), learnt(net(), teacher)
    for name, value in state(expected).items():
        assert torch.allclose(value, state(student)[name], atol=1e-4)
    (options,) = teacher_options(scripted)  # for a search
    assert load("teacher", options["factory"]) is scripted
    assert module_identity(scripted) == module_identity(torch.jit.script(net(8, seed=3).eval()))


def test_probabilities_are_recognised_and_said() -> None:
    notes: list[str] = []

    class Notes(Callback):
        def on_note(self, text: str) -> None:
            notes.append(text)

    teacher = net(8, seed=3).eval()
    probable = Returns(teacher, lambda z: z.softmax(1))
    student = distill(net(), probable, train=samples(), epochs=2, callbacks=Notes())
    assert notes[0] == "teacher: returns probabilities: their logarithms are used as logits"
    expected = distill(net(), teacher, train=samples(), epochs=2)
    assert all(
        torch.allclose(a, b, atol=1e-4) for a, b in zip(student.parameters(), expected.parameters(), strict=True)
    )
