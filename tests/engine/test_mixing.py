"""Trainings on mixed samples: what teachers are shown, both labels in every batch, and resuming to the last bit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from nas_kd.data.augment import UNLABELLED_SEEDS, Augmenter, mixed
from nas_kd.data.augmentation_choices import NONE
from nas_kd.data.mixing import MixedView
from nas_kd.engine.batch_source import ArrayBatches, Order
from nas_kd.engine.mixed_batches import MixedBatches
from nas_kd.engine.teacher_outputs import Teacher, TeacherOutputs
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.methods.combine import make_method
from nas_kd.store.store import Store

from .conftest import FP32, N, net, stripes

MIXES = ("mixup", "cutmix")


def view_of(setup: TrainingSetup, mix: str) -> MixedView:
    assert isinstance(setup.source, ArrayBatches)
    assert isinstance(setup.source.augmenter, Augmenter)
    found = mixed(setup.source.augmenter, mix)
    assert isinstance(found, MixedView)
    return found


def mixed_setup(setup: TrainingSetup, mix: str, *, unlabelled: bool = False) -> TrainingSetup:
    batches = ArrayBatches(view_of(setup, mix), stripes()[1])
    if not unlabelled:
        return replace(setup, source=batches)
    others = mixed(Augmenter(stripes()[0].flip(3), torch.zeros(1), NONE, UNLABELLED_SEEDS), mix)
    return replace(setup, source=MixedBatches(batches, others, 0.5, use_unlabelled=True))


def outputs_of(setup: TrainingSetup, store: Store | None = None) -> TeacherOutputs:
    source, teacher = setup.source, Teacher(net(12, seed=9).eval(), "a" * 64, "teacher", 1, 1)
    assert source.view is not None
    return TeacherOutputs(teacher, source.view, 32, FP32, store, unlabelled=source.unlabelled_view)


def state(run: Training) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in run.state().items() if k != "progress/seconds"}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("epoch", [0, 3])
def test_cached_logits_are_those_of_a_teacher_that_sees_the_mixed_samples(
    setup: TrainingSetup, mix: str, epoch: int, tmp_path: Path
) -> None:
    run, plain = mixed_setup(setup, mix), outputs_of(setup)
    teacher = outputs_of(run, Store(tmp_path))
    samples = run.source.epoch(epoch, 32, Order(make_method("none"), 3))(1)
    extractor = teacher.extractor(frozenset({"logits"}))
    live = teacher.live(extractor, FP32.to_layout(samples.x)).logits
    extractor.close()
    assert torch.equal(live, teacher.cached(epoch, samples.indices).logits)
    assert torch.equal(live, outputs_of(run, Store(tmp_path)).cached(epoch, samples.indices).logits)
    assert not torch.equal(live, plain.cached(epoch, samples.indices).logits)


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("unlabelled", [False, True])
def test_a_cached_and_a_live_teacher_train_the_same_student(setup: TrainingSetup, mix: str, unlabelled: bool) -> None:
    run = mixed_setup(setup, mix, unlabelled=unlabelled)
    cached, live = outputs_of(run), outputs_of(run)
    live.reader = super(TeacherOutputs, live).reader  # type: ignore[method-assign]
    ends = []
    for teacher in (cached, live):
        training = Training(net(4), [teacher], make_method("soft_targets"), run)
        training.run(until=2)
        ends.append(state(training))
    assert same(*ends)


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("method", ["soft_targets", "similarity+crd", "label_smoothing"])
def test_a_training_is_resumed_to_the_last_bit(setup: TrainingSetup, mix: str, method: str) -> None:
    run = mixed_setup(setup, mix)
    teachers = [] if method == "label_smoothing" else [outputs_of(run)]
    whole, first, second = (Training(net(4), teachers, make_method(method), run) for _ in range(3))
    whole.run()
    first.run(until=3)
    second.restore({k: v.clone() for k, v in first.state().items()})
    second.run()
    assert same(state(whole), state(second))
    unmixed = Training(net(4), teachers and [outputs_of(setup)], make_method(method), setup)
    unmixed.run()
    assert not same(state(whole), state(unmixed))


def test_batches_have_both_labels_and_the_loss_learns_both(setup: TrainingSetup) -> None:
    run, y = mixed_setup(setup, "mixup"), stripes()[1]
    training = Training(net(4), [], make_method("none"), run)
    samples = run.source.epoch(0, 32, Order(make_method("none"), 3))(0)
    batch = training._real(samples, 0.0)
    mixture = view_of(setup, "mixup").mixture(0, samples.indices)
    assert batch.mixed is not None
    assert torch.equal(batch.y, y[samples.indices])
    assert torch.equal(batch.mixed.y, y[mixture.partner])
    assert torch.equal(batch.mixed.share, mixture.share)
    with torch.no_grad():
        logits: torch.Tensor = training.student(batch.x)
    first, second = (F.cross_entropy(logits, labels, reduction="none") for labels in (batch.y, batch.mixed.y))
    expected = (mixture.share * first + (1 - mixture.share) * second).mean()
    torch.testing.assert_close(batch.label_loss(logits), expected)


@pytest.mark.parametrize("mix", MIXES)
def test_unlabelled_samples_are_mixed_among_themselves(mix: str) -> None:
    """Labelled samples are 1, unlabelled ones 2: nothing in between may appear."""
    ones = Augmenter(torch.ones(N, 1, 8, 8), torch.zeros(1), NONE, 0)
    twos = Augmenter(torch.full((70, 1, 8, 8), 2.0), torch.zeros(1), NONE, UNLABELLED_SEEDS)
    labels = torch.arange(N)  # each sample its own, so that a label says which sample it is of
    source = MixedBatches(ArrayBatches(mixed(ones, mix), labels), mixed(twos, mix), 0.5, use_unlabelled=True)
    order, seen = Order(make_method("soft_targets"), 0), set()
    for step in range(source.steps_per_epoch(16)):
        samples = source.epoch(0, 16, order)(step)
        assert samples.mixed is not None
        assert len(samples.y) == len(samples.mixed.y) == len(samples.mixed.share) == 8
        assert torch.allclose(samples.x[:8], torch.ones(1), atol=1e-6)
        assert torch.allclose(samples.x[8:], torch.full((1,), 2.0), atol=1e-6)
        for shown in (s for s in samples.shown if not s.unlabelled):
            partner = mixed(ones, mix).mixture(shown.number, shown.indices)
            assert partner is not None
            seen.update(partner.partner.tolist())
            assert set(partner.partner.tolist()) <= set(samples.mixed.y.tolist())
    assert len(seen) > 40


@pytest.mark.parametrize("mix", MIXES)
def test_a_network_learns_from_mixed_samples_what_samples_are(setup: TrainingSetup, mix: str) -> None:
    longer = replace(mixed_setup(setup, mix), schedule=replace(setup.schedule, epochs=30))
    run = Training(net(8), [], make_method("label_smoothing"), longer)
    run.run()
    (student,), (x, y) = run.averaged_students(), stripes()
    with torch.no_grad():
        right = (student(x.float()).argmax(dim=1) == y).float().mean()
    assert float(right) > 0.8
