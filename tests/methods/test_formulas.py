"""Every method's terms and gradients are those of its published formula, written out in `formulas`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.combine import make_method
from nas_kd.plugins import available

from .formulas import FORMULAS
from .formulas.compare import C, differences, gradients
from .toys import outputs, setting_of

Maps = tuple[tuple[int, ...], ...]
# Their own state moves on in training: memory banks, estimates of spectral norms.
AT_REST = {"crd", "adversarial_logits", "adversarial_online"}


@dataclass(frozen=True)
class Case:
    """Shapes of random outputs. `rectified`: no teacher's feature is negative."""

    b: int = 3
    student: Maps = ((2, 4, 4), (3, 2, 2))
    teacher: Maps = ((3, 4, 4), (3, 2, 2))
    stems: tuple[tuple[int, ...] | None, tuple[int, ...] | None] = (None, None)
    widths: tuple[int, int] = (3, 4)
    teachers: int = 1
    temperature: float | None = None
    progress: float = 0.6
    rectified: bool = False


LOGITS = [Case(b=1), Case(b=2, temperature=1.0), Case(b=5, temperature=2.5, progress=0.05)]
FEATURES = [
    Case(),
    Case(b=1, student=((2, 6, 4), (2, 3, 2)), teacher=((2, 6, 4), (5, 3, 2)), rectified=True),
    Case(b=2, student=((1, 6, 6), (2, 5, 3), (3, 3, 2)), teacher=((4, 4, 5), (2, 2, 2)), temperature=1.0),
    Case(b=2, student=((2, 3, 3), (3, 2, 2)), teacher=((1, 8, 8), (2, 4, 4), (4, 2, 2)), rectified=True),
    Case(b=2, student=((7, 2), (4, 3)), teacher=((3, 3), (4, 2))),  # tokens
    Case(b=2, student=((2, 4, 4), (3, 2, 2), (2, 1, 2)), teacher=((3, 4, 4), (2, 2, 2), (2, 2, 2))),
]
PATCHES = Case(b=2, student=((10, 2), (6, 3)), teacher=((5, 3), (5, 2)))  # behind one more token, or two
BY_STAGE = [*FEATURES, PATCHES]
PAIRED = [replace(case, b=max(case.b, 2)) for case in FEATURES]  # two samples or more
STEMS = [
    Case(stems=((2, 4, 4), (4, 4, 4))),
    Case(b=2, student=((2, 4, 4), (3, 2, 2), (2, 1, 1)), stems=(None, (3, 4, 4)), teacher=((4, 4, 4), (3, 2, 2))),
    Case(b=2, student=((3, 4, 4),), stems=((2, 4, 4), None), teacher=((4, 4, 4), (3, 2, 2))),
    Case(b=1, student=((5, 2),), stems=((5, 3), (6, 2)), teacher=((6, 4),)),  # tokens
]
SEVERAL = [Case(teachers=2), replace(FEATURES[1], teachers=3, temperature=1.0), replace(FEATURES[2], teachers=2)]
EARLY = [Case(b=2, progress=0.0), Case(b=3, progress=0.1, temperature=1.5), Case(b=4, progress=0.9)]
ALONE = [Case(b=1), *EARLY]
CASES: dict[str, list[Case]] = {
    **dict.fromkeys(
        ("none", "label_smoothing", "soft_targets", "logits", "dkd", "born_again", "dafl", "deep_inversion"), LOGITS
    ),
    **dict.fromkeys(("fitnet", "attention_transfer", "afd", "channel_wise", "similarity"), BY_STAGE),
    **dict.fromkeys(("average_teachers", "random_teacher", "adaptive_teachers"), SEVERAL),
    **dict.fromkeys(("dml", "okddip", "bake", "adversarial_online", "byot"), ALONE),
    "dist": LOGITS[1:],
    "embedding": LOGITS,
    "fsp": [*FEATURES, *STEMS],
    "rkd": [*PAIRED, Case(b=5, widths=(1, 2))],
    "irg": [*PAIRED, Case(b=4, student=(), teacher=())],
    "crd": LOGITS,
    "one": EARLY,
    "adversarial_logits": LOGITS,
    "cross_modal": [*LOGITS, Case(widths=(3, 3))],
}


class Tiny(nn.Module):
    """A network to train beside the student: (B, 1, 4, 4) -> outputs with two stages."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first, self.tail = nn.Conv2d(1, 2, 3, padding=1).double(), Tail(seed)

    def forward(self, x: Tensor) -> Outputs:
        found: Outputs = self.tail(self.first(x))
        return found


class Tail(nn.Module):
    """What comes behind the first stage: (B, 2, 4, 4) -> outputs."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(10 + seed)
            self.second = nn.Conv2d(2, 3, 3, stride=2, padding=1).double()
            self.classifier = nn.Linear(3, C).double()

    def forward(self, f: Tensor) -> Outputs:
        second = torch.tanh(self.second(f))
        embedding = second.mean(dim=(2, 3))
        return Outputs(3 * self.classifier(embedding), (f, second), embedding)


def context_of(student: Outputs, teachers: Sequence[Outputs], x: Tensor) -> MethodContext:
    """For methods that build networks, too."""
    return replace(
        setting_of(student, teachers, n_samples=8),
        rebuild=Tiny,
        branch=Tail,
        observe=lambda network, _: network,  # type: ignore[arg-type, return-value]
        example=x,
    )


def attached(name: str, case: Case) -> tuple[Method, Outputs, list[Outputs], Batch]:
    """The method with weights of its own, in float64; student's outputs that collect gradients; teachers'."""

    def given(seed: int, maps: Maps, stem: tuple[int, ...] | None, width: int) -> Outputs:
        o = outputs(seed, case.b, C, maps, width)
        return o if stem is None else o._replace(stem=outputs(50 + seed, case.b, C, [stem]).features[0])

    s = given(0, case.student, case.stems[0], case.widths[0])
    teachers = [given(1 + i, case.teacher, case.stems[1], case.widths[1]) for i in range(case.teachers)]
    if case.rectified:
        teachers = [t._replace(features=tuple(f.relu() for f in t.features)) for t in teachers]
    x = torch.randn(case.b, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    torch.manual_seed(0)
    method = make_method(name, case.temperature)
    if name in {"dafl", "deep_inversion"}:  # what they attach makes samples up; the student's loss needs nothing of it
        return method, with_gradient(s), teachers, Batch(x, torch.arange(case.b) % C, torch.arange(0), case.progress)
    method.attach(context_of(s, teachers, x))
    if name == "crd":
        method.negatives = 5  # of the 8 samples: as many as samples, the two numbers would cancel
    method.double().train(name not in AT_REST)
    with torch.no_grad():  # gains and offsets of batch normalisation are 1 and 0 at first, which would hide them
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    batch = Batch(x, torch.arange(case.b) % C, torch.arange(case.b) + 1, case.progress)
    return method, with_gradient(s), teachers, batch


def with_gradient(o: Outputs) -> Outputs:
    stem = None if o.stem is None else o.stem.requires_grad_()
    features = tuple(f.requires_grad_() for f in o.features)
    return Outputs(o.logits.requires_grad_(), features, o.embedding.requires_grad_(), stem)


def leaves(method: nn.Module, s: Outputs) -> dict[str, Tensor]:
    """All that may get a gradient."""
    named = {"logits": s.logits, "embedding": s.embedding} | {f"feature {i}": f for i, f in enumerate(s.features)}
    return named | ({} if s.stem is None else {"stem": s.stem}) | dict(method.named_parameters())


@pytest.mark.parametrize(
    ("name", "case"),
    [pytest.param(name, case, id=f"{name}-{i}") for name, cases in CASES.items() for i, case in enumerate(cases)],
)
def test_values_and_gradients_are_those_of_the_formula(name: str, case: Case) -> None:
    method, s, teachers, batch = attached(name, case)
    torch.manual_seed(3)
    slow = FORMULAS[name](method, s, teachers, batch)
    torch.manual_seed(3)
    fast = method(s, teachers, batch)
    assert differences(fast, slow, leaves(method, s)) == []


def test_every_method_has_a_formula_and_a_case() -> None:
    assert set(FORMULAS) == set(available("method")) == set(CASES)


@pytest.mark.parametrize("name", [name for name in CASES if name not in {"none", "dafl", "deep_inversion"}])
def test_every_term_depends_on_something_that_is_compared(name: str) -> None:
    """In one of the cases at least, of which some are degenerate."""
    silent: set[str] | None = None
    for case in CASES[name]:
        method, s, teachers, batch = attached(name, case)
        terms = method(s, teachers, batch)
        silent = set(terms) if silent is None else silent
        for term, value in terms.items():
            if any(g.abs().max() > 1e-6 for g in gradients(value, leaves(method, s)).values() if g.numel()):
                silent -= {term}
    assert silent == set()


def test_a_wrong_value_a_wrong_gradient_and_a_missing_term_are_found() -> None:
    z = torch.ones(3, dtype=torch.float64, requires_grad=True)
    right = {"term": z.sum()}
    assert differences({"term": z.square().sum()}, right, {"z": z})[0].startswith("gradient of term on z")
    assert differences({"term": 2 * z.sum()}, right, {"z": z})[0].startswith("term: ")
    assert differences({}, right, {"z": z}) == ["terms [], by the formula ['term']"]
