"""Batches of labelled and unlabelled samples: a pure function of (seed, epoch, step), every sample equally often."""

from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from nas_kd.config.options import DistillOptions
from nas_kd.data.augment import Augmenter
from nas_kd.data.augmentation_choices import NONE
from nas_kd.engine.batch_source import ArrayBatches, Order, Samples
from nas_kd.engine.method_setup import DatasetInfo, loss_terms
from nas_kd.engine.mixed_batches import MixedBatches
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher, outputs_on
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.errors import InputError
from nas_kd.methods.base import Batch, Method, Outputs
from nas_kd.methods.combine import make_method, uses_unlabelled
from nas_kd.results.mixed_plan import MixedPlan
from nas_kd.results.training_recipe import TrainingRecipe

C, D = 3, 5
SCHEDULE = Schedule.of(DistillOptions(), TrainingRecipe(4, 8, "sgd", 0.1, 5e-4, "none"))


def source(labelled: int, unlabelled: int, share: float, *, use_unlabelled: bool = True) -> MixedBatches:
    """Sample i of a kind has i in its first column, and the kind in its second."""
    arrays = [torch.randn(n, D, generator=torch.Generator().manual_seed(n)) for n in (labelled, unlabelled)]
    for kind, x in enumerate(arrays):
        x[:, 0], x[:, 1] = torch.arange(len(x)), kind
    first, second = (Augmenter(x, torch.zeros(1), NONE, seed) for seed, x in enumerate(arrays))
    batches = ArrayBatches(first, torch.arange(labelled) % C)
    return MixedBatches(batches, second, share, use_unlabelled=use_unlabelled)


def epochs(mixed: MixedBatches, numbers: range, batch_size: int, seed: int = 0) -> list[Samples]:
    order, steps = Order(make_method("soft_targets"), seed), mixed.steps_per_epoch(batch_size)
    return [mixed.epoch(n, batch_size, order)(step) for n in numbers for step in range(steps)]


@pytest.mark.parametrize(
    ("labelled", "unlabelled", "share", "batch"), [(30, 90, 0.75, 8), (10, 90, 0.875, 16), (40, 9, 0.5, 8)]
)
def test_every_sample_of_a_kind_is_shown_equally_often(
    labelled: int, unlabelled: int, share: float, batch: int
) -> None:
    mixed = source(labelled, unlabelled, share)
    seen: list[Counter[int]] = [Counter(), Counter()]
    for samples in epochs(mixed, range(6), batch):
        for kind in (0, 1):
            rows = samples.x[samples.x[:, 1] == kind, 0]
            seen[kind].update(rows.int().tolist())
    for counts, n in zip(seen, (labelled, unlabelled), strict=True):
        each = [counts[i] for i in range(n)]
        assert max(each) - min(each) <= 1


def test_labelled_samples_come_first_with_their_labels_and_positions() -> None:
    for samples in epochs(source(30, 90, 0.75), range(2), 8):
        assert samples.x.shape == (8, D)
        assert len(samples.y) == len(samples.indices) == 2
        assert samples.x[:2, 0].int().tolist() == samples.indices.tolist()
        assert samples.y.tolist() == [i % C for i in samples.indices.tolist()]
        assert samples.x[:, 1].tolist() == [0.0] * 2 + [1.0] * 6
        shown = torch.cat([s.indices for s in samples.shown])
        assert shown.tolist() == samples.x[:, 0].int().tolist()


def test_batches_follow_from_seed_and_step_alone_and_can_be_read_in_any_order() -> None:
    first, again = (epochs(source(10, 50, 0.8), range(3), 8) for _ in range(2))
    assert all(torch.equal(a.x, b.x) for a, b in zip(first, again, strict=True))
    other = epochs(source(10, 50, 0.8), range(3), 8, seed=1)
    assert not all(torch.equal(a.x, b.x) for a, b in zip(first, other, strict=True))
    late = source(10, 50, 0.8).epoch(2, 8, Order(make_method("soft_targets"), 0))
    steps = len(first) // 3
    assert torch.equal(late(steps - 1).x, first[-1].x)


def test_methods_without_a_teacher_get_as_many_steps_of_labelled_samples() -> None:
    mixed, plain = source(10, 90, 0.8), source(10, 90, 0.8, use_unlabelled=False)
    assert mixed.steps_per_epoch(8) == plain.steps_per_epoch(8) == 12
    assert all((s.x[:, 1] == 0).all() and len(s.y) == len(s.x) == 8 for s in epochs(plain, range(2), 8))


@pytest.mark.parametrize(("batch", "share", "rows"), [(8, 0.01, (7, 1)), (8, 0.99, (1, 7)), (64, 0.5, (20, 30))])
def test_each_kind_has_a_row_at_least_and_no_more_than_there_are(
    batch: int, share: float, rows: tuple[int, int]
) -> None:
    assert tuple(MixedPlan(20, 30, share).rows(batch)) == rows


def test_passes_of_an_epoch_are_those_that_it_shows() -> None:
    mixed, batch = source(10, 33, 0.6), 7
    for epoch in range(5):
        for unlabelled in (False, True):
            shown = [s for b in epochs(mixed, range(epoch, epoch + 1), batch) for s in b.shown]
            numbers = {s.number for s in shown if s.unlabelled == unlabelled}
            assert set(mixed.plan.passes(batch, epoch, unlabelled=unlabelled)) == numbers


@pytest.mark.parametrize(
    ("method", "uses"),
    [
        ("soft_targets", True), ("dkd", True), ("similarity", True), ("rkd", True), ("born_again", True),
        ("soft_targets+crd", True), ("soft_targets+byot", True), ("average_teachers", True),
        ("crd", False), ("adversarial_logits", False), ("none", False), ("dml", False), ("byot", False),
        ("deep_inversion", False), ("soft_targets+dafl", False),
    ],
)  # fmt: skip
def test_which_methods_learn_from_unlabelled_samples(method: str, uses: bool) -> None:
    assert uses_unlabelled(make_method(method)) == uses


def test_the_label_loss_leaves_unlabelled_samples_out() -> None:
    logits, y = torch.randn(5, C, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2])
    batch = Batch(torch.zeros(5, D), y, torch.arange(2), 0.5, torch.tensor([1.0, 2.0, 3.0]))
    expected = nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0]))(logits[:2], y)
    assert torch.equal(batch.label_loss(logits), expected)


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(D, 8), nn.ReLU(), nn.Linear(8, C))


def training(method: str, seed: int = 3) -> Training:
    mixed = source(20, 44, 0.7, use_unlabelled=uses_unlabelled(make_method(method)))
    setup = TrainingSetup(mixed, DatasetInfo(20, C, torch.zeros(1), torch.ones(1)), SCHEDULE, seed=seed)
    loss = make_method(method)
    teachers = [outputs_on(Teacher(net(9), key="t"), mixed, 8, setup.numerics)] if loss.teachers != "none" else []
    return Training(net(1), teachers, loss, setup)


def weights(trained: Training) -> Tensor:
    return torch.cat([p.detach().flatten() for p in trained.student.parameters()])


@pytest.mark.parametrize(
    "method", ["soft_targets", "dkd", "rkd", "crd", "soft_targets+crd", "adversarial_logits", "none"]
)
def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(method: str) -> None:
    whole, stopped, resumed = (training(method) for _ in range(3))
    whole.run()
    stopped.run(until=2)
    resumed.restore(stopped.state())
    resumed.run()
    assert torch.equal(weights(whole), weights(resumed))


def test_cached_logits_are_those_of_the_teacher_on_the_batch() -> None:
    trained, seen = training("soft_targets"), []
    teacher = net(9).eval()
    trained.method.register_forward_pre_hook(lambda _, given: seen.append((given[1][0].logits, teacher(given[2].x))))
    trained.run(until=2)
    assert len(seen) > 16
    assert all(torch.allclose(cached, live, atol=1e-6) for cached, live in seen)


def test_dkd_sets_the_teachers_own_choice_apart_where_there_is_no_label() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, C, generator=generator) for _ in range(2))
    y, method = torch.tensor([0, 1]), make_method("dkd")
    outputs = [Outputs(x, (), x[:, :0]) for x in (student, teacher)]
    mixed = method(outputs[0], [outputs[1]], Batch(torch.zeros(6, D), y, torch.arange(2), 1.0))
    filled = torch.cat([y, teacher[2:].argmax(dim=1)])
    labelled = method(outputs[0], [outputs[1]], Batch(torch.zeros(6, D), filled, torch.arange(6), 1.0))
    assert all(torch.equal(mixed[name], labelled[name]) for name in labelled)


def test_a_method_that_needs_labels_is_given_the_first_rows_of_all_outputs() -> None:
    class Watches(Method):
        name, needs = "watches", frozenset({"stem", "labels"})

        def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
            for outputs in (student, *teachers):
                assert outputs.stem is not None
                assert len(outputs.stem) == len(outputs.features[0]) == len(batch.y) == len(batch.x)
            return {"watches": student.logits.sum()}

    outputs = Outputs(torch.zeros(8, C), (torch.zeros(8, 4),), torch.zeros(8, 4), torch.arange(8.0)[:, None])
    batch = Batch(torch.zeros(8, D), torch.zeros(3, dtype=torch.int64), torch.arange(3), 0.0)
    assert set(loss_terms(Watches(), outputs, [outputs], batch)) == {"watches"}


class Fails(Method):
    name = "fails"

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        raise RuntimeError(self.reason)

    reason = "the size of tensor a (8) must match the size of tensor b (3)"


@pytest.mark.parametrize("labels", [3, 8])
def test_errors_are_explained_where_unlabelled_samples_may_be_the_cause(labels: int) -> None:
    outputs = Outputs(torch.zeros(8, C), (), torch.zeros(8, 0))
    batch = Batch(torch.zeros(8, D), torch.zeros(labels, dtype=torch.int64), torch.arange(labels), 0.0)
    kind, message = (InputError, 'must have "labels" in `needs`') if labels < 8 else (RuntimeError, "must match")
    with pytest.raises(kind, match=message):
        loss_terms(Fails(), outputs, [outputs], batch)
    method = Fails()
    method.reason = "DefaultCPUAllocator: can't allocate memory"
    with pytest.raises(RuntimeError, match=r"^DefaultCPUAllocator"):
        loss_terms(method, outputs, [outputs], batch)
