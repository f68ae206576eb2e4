"""`logits` and `dist` against values worked out in float64 NumPy, and on logits without any spread."""

import numpy as np
import pytest
import torch
from torch import Tensor

from nas_kd.methods.base import Outputs
from nas_kd.methods.combine import make_method
from nas_kd.methods.response.dist import pearson

from .toys import Array, batch_of, outputs, softmax

SHAPES = [(2, 3), (2, 10), (7, 2), (16, 10)]


def only_logits(logits: Tensor) -> Outputs:
    return Outputs(logits, (), logits[:, :0])


@pytest.mark.parametrize(("b", "c"), SHAPES)
def test_logits_is_the_mean_square_over_samples_and_classes(b: int, c: int) -> None:
    s, t = outputs(0, b, c), outputs(1, b, c)
    expected = 0.1 * sum((s.logits.numpy() - t.logits.numpy()).flatten() ** 2) / (b * c)
    method = make_method("logits")
    assert method(s, [t], batch_of(b, c))["logits"].item() == pytest.approx(expected, rel=1e-12)
    assert method.ce_weight == 1.0


@pytest.mark.parametrize(("b", "c"), SHAPES)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dist_is_one_minus_correlation_among_classes_and_among_samples(b: int, c: int, temperature: float) -> None:
    s, t = outputs(0, b, c), outputs(1, b, c)
    q, p = softmax(s.logits.numpy(), temperature), softmax(t.logits.numpy(), temperature)

    def distance(student: Array, teacher: Array) -> float:
        """A row of the student that deviates by less than 3 % of its length counts less."""
        pairs = [
            (np.corrcoef(u, v)[0, 1], u.std() / np.sqrt((u**2).mean())) for u, v in zip(student, teacher, strict=True)
        ]
        return float(np.mean([1 - r * min(1, share / 0.03) for r, share in pairs]))

    terms = make_method("dist", temperature)(s, [t], batch_of(b, c))
    assert terms["dist_classes"].item() == pytest.approx(2 * temperature**2 * distance(q, p), rel=1e-9)
    assert terms["dist_samples"].item() == pytest.approx(2 * temperature**2 * distance(q.T, p.T), rel=1e-9)


def test_dist_is_nought_where_all_correlate() -> None:
    t = outputs(1, 5, 4)
    terms = make_method("dist")(t, [t], batch_of(5, 4))
    assert [v.item() for v in terms.values()] == pytest.approx([0, 0], abs=1e-12)


@pytest.mark.parametrize("name", ["logits", "dist"])
def test_gradients_are_those_of_the_value_and_the_teacher_gets_none(name: str) -> None:
    t, method = outputs(1, 5, 4), make_method(name)

    def total(logits: Tensor) -> Tensor:
        return torch.stack(list(method(only_logits(logits), [t], batch_of(5, 4)).values())).sum()

    assert torch.autograd.gradcheck(total, outputs(0, 5, 4).logits.requires_grad_())
    assert not t.logits.requires_grad


CONSTANT = torch.full((2, 10), 0.3)
EQUAL_ROWS = torch.randn(1, 10, generator=torch.Generator().manual_seed(0)).expand(2, 10).clone()
CERTAIN = 300 * torch.eye(2, 10)


@pytest.mark.parametrize("student", [CONSTANT, EQUAL_ROWS, CERTAIN, CONSTANT[:1]])
@pytest.mark.parametrize("teacher", [CONSTANT, EQUAL_ROWS, CERTAIN])
@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_dist_and_its_gradient_are_finite_without_any_spread(
    student: Tensor, teacher: Tensor, temperature: float
) -> None:
    logits = student.clone().requires_grad_()
    terms = make_method("dist", temperature)(
        only_logits(logits), [only_logits(teacher[: len(student)])], batch_of(len(student), 10)
    )
    assert all(-1e-4 <= v.item() <= 4 * temperature**2 + 1e-4 for v in terms.values())
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_dist_pulls_a_constant_student_towards_the_teacher() -> None:
    logits = CONSTANT.clone().requires_grad_()
    teacher = outputs(1, 2, 10).logits.float()
    terms = make_method("dist")(only_logits(logits), [only_logits(teacher)], batch_of(2, 10))
    terms["dist_classes"].backward()  # type: ignore[no-untyped-call]
    assert terms["dist_classes"].item() == pytest.approx(32, rel=1e-3)  # no correlation at all
    assert logits.grad is not None
    p = (teacher / 4).softmax(dim=1)
    assert torch.equal((-logits.grad).sign(), (p - p.mean(dim=1, keepdim=True)).sign())


def test_rounding_is_no_correlation() -> None:
    """Logits equal but for their last bits say nothing: they count as constant."""
    rng = torch.Generator().manual_seed(0)
    s = 5 + 1e-6 * torch.randn(4, 10, generator=rng)
    terms = make_method("dist")(only_logits(s), [only_logits(s.clone())], batch_of(4, 10))
    assert terms["dist_classes"].item() > 31.9


@pytest.mark.parametrize(("share", "damped"), [(0.01, 1 / 3), (0.02, 2 / 3), (0.1, 1.0)])
def test_rows_that_deviate_by_less_than_three_percent_of_their_length_are_damped(share: float, damped: float) -> None:
    pattern = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    rows = torch.stack([1 + share * pattern]) / (1 + share**2) ** 0.5
    assert pearson(rows, 1 + pattern[None]).item() == pytest.approx(damped, rel=0.01)
