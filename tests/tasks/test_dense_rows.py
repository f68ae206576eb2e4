"""Rows of decisions that do not count: methods neither see them nor depend on them."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nas_kd.engine.method_setup import loss_terms
from nas_kd.methods.base import Batch, Outputs
from nas_kd.methods.combine import make_method
from nas_kd.plugins import available
from nas_kd.tasks.base import Task, load_task
from nas_kd.tasks.masks import VOID, class_shares

SIZE, CLASSES = 8, 3
GENERATOR = np.random.default_rng(0)
MASKS = GENERATOR.integers(0, CLASSES, (6, SIZE // 2, SIZE // 2)).repeat(2, 1).repeat(2, 2).astype(np.uint8)
ON_ROWS = [n for n, m in available("method").items() if "rows" in (m.decisions or ()) and m.teachers == "one"]


def segmentation() -> Task:
    return load_task("segmentation").read_targets({"train": MASKS}, None).task


def with_void(y: Tensor) -> Tensor:
    """The left half of each mask void, but for one pixel of a cell that then counts a quarter."""
    y = y.clone()
    y[:, :, : SIZE // 2] = VOID
    y[:, 0, 0] = 1
    return y


def batch_of(y: Tensor) -> Batch:
    return Batch(torch.zeros(len(y), 1), y, torch.arange(len(y)), 0.5, task=segmentation())


def outputs(seed: int) -> Tensor:
    return 2 * torch.randn(len(MASKS) * 16, CLASSES, generator=torch.Generator().manual_seed(seed))


def terms_of(name: str, student: Tensor, teacher: Tensor, batch: Batch) -> dict[str, Tensor]:
    shown = [Outputs(z, (), z[:, :0]) for z in (student, teacher)]
    return loss_terms(make_method(name), shown[0], shown[1:], batch)


def values(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(term.detach()) for name, term in terms.items()}


@pytest.mark.parametrize("name", ON_ROWS)
def test_rows_that_do_not_count_change_nothing(name: str) -> None:
    batch = batch_of(with_void(torch.from_numpy(MASKS)))
    counts = batch.task.row_counts(batch.y, [])
    assert counts is not None
    assert sorted(counts.unique().tolist()) == [0, 0.25, 1]
    student, teacher = outputs(0).requires_grad_(), outputs(1)
    found = terms_of(name, student, teacher, batch)
    others = torch.where((counts > 0)[:, None], teacher, 5 * outputs(2))
    assert values(found) == pytest.approx(values(terms_of(name, student, others, batch)))
    (gradient,) = torch.autograd.grad(sum(found.values(), torch.zeros(())), student)
    assert not gradient[counts == 0].any()
    assert gradient[counts > 0].any()


@pytest.mark.parametrize("name", ON_ROWS)
def test_where_all_rows_count_nothing_changes(name: str) -> None:
    """The terms are those of a classifier with as many samples: not more for there being many pixels."""
    batch = batch_of(torch.from_numpy(MASKS))
    found = terms_of(name, outputs(0), outputs(1), batch)
    samples = Batch(torch.zeros(96, 1), batch.targets, torch.arange(96), 0.5)
    assert values(found) == pytest.approx(values(terms_of(name, outputs(0), outputs(1), samples)))


def test_weights_are_shares_of_the_mean() -> None:
    """Soft targets of a cell three quarters of which are void count a quarter of a whole one."""
    batch = batch_of(with_void(torch.from_numpy(MASKS)))
    counts = batch.task.row_counts(batch.y, [])
    assert counts is not None
    student, teacher, t = outputs(0), outputs(1), 4.0
    p, q = (teacher / t).softmax(1), (student / t).log_softmax(1)
    rows = (p * (p.log() - q)).sum(1)
    expected = 0.9 * t**2 * (rows * counts).sum() / counts.sum()
    assert float(terms_of("soft_targets", student, teacher, batch)["soft_targets"]) == pytest.approx(float(expected))


def test_a_batch_without_rows_that_count_has_no_terms() -> None:
    batch = batch_of(torch.full((6, SIZE, SIZE), VOID, dtype=torch.uint8))
    assert float(terms_of("soft_targets", outputs(0), outputs(1), batch)["soft_targets"]) == 0
    assert float(batch.label_loss(outputs(0))) == pytest.approx(1)  # no pixel, and no class that Dice could find


def test_the_label_loss_of_cells_is_that_of_pixels() -> None:
    """Cross-entropy with shares equals the mean over pixels of logits that each cell's pixels have alike."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, CLASSES, (6, SIZE, SIZE), generator=generator).to(torch.uint8)
    y[:, 3:5, 2] = VOID
    raw, task = torch.randn(6, CLASSES, 4, 4, generator=generator), segmentation()
    pixels = raw.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = F.cross_entropy(pixels, y.long(), ignore_index=VOID)
    known = (y != VOID)[:, None]
    hot = F.one_hot(y.long().clamp(max=CLASSES - 1), CLASSES).movedim(3, 1) * known
    given = pixels.softmax(1) * known
    dice = 1 - (2 * (given * hot).sum((0, 2, 3)) / (given + hot).sum((0, 2, 3))).mean()
    assert float(task.label_loss(task.decide(raw), y, None, None)) == pytest.approx(float(expected + dice), rel=1e-5)


def test_labels_reach_rows_that_a_method_was_shown() -> None:
    """A method that passes on the rows that it sees gets the label loss of all of them."""
    batch = batch_of(with_void(torch.from_numpy(MASKS)))
    counts = batch.task.row_counts(batch.y, [])
    assert counts is not None
    seen: list[Batch] = []

    class Sees(type(make_method("logits"))):  # type: ignore[misc]
        def forward(self, student: Outputs, teachers: object, shown: Batch) -> dict[str, Tensor]:
            seen.append(shown)
            return {"seen": shown.label_loss(student.logits)}

    z = outputs(0)
    found = loss_terms(Sees(), Outputs(z, (), z[:, :0]), [Outputs(z, (), z[:, :0])], batch)
    assert float(found["seen"]) == pytest.approx(float(batch.label_loss(z)))
    assert len(seen[0].targets) == int((counts > 0).sum()) == len(seen[0].label_weights())


@dataclass(frozen=True)
class SeesAll(type(segmentation())):  # type: ignore[misc]
    """Counts all rows in the comparison with teachers."""

    def row_counts(self, y: Tensor, taught: object) -> None:
        return None


def test_the_comparison_can_fail() -> None:
    batch = batch_of(with_void(torch.from_numpy(MASKS)))
    all_rows = batch._replace(task=SeesAll(**vars(batch.task)))
    usual, other = (terms_of("soft_targets", outputs(0), outputs(1), b)["soft_targets"] for b in (batch, all_rows))
    assert abs(float(usual - other)) > 1e-3


def test_shares_of_cells_that_stick_out() -> None:
    y = torch.tensor([[[0, 1, 1], [VOID, 1, 0], [2, 2, 0]]], dtype=torch.uint8)
    shares = class_shares(y, 3, 2)
    assert shares.shape == (1, 3, 2, 2)
    assert shares[0, :, 0, 0].tolist() == [0.25, 0.5, 0]
    assert shares[0, :, 1, 1].tolist() == [0.25, 0, 0]
    assert replace(load_task("segmentation"), size=(97, 130), n_classes=2, stride=4).grid == (25, 33)
