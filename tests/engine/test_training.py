"""The loop learns, repeats itself bit by bit, and goes on from a checkpoint as if never stopped."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from nas_kd.data.dataset import Split
from nas_kd.engine.numerics import Numerics
from nas_kd.engine.teachers import TeacherOutputs
from nas_kd.engine.training import Setup, Training, accuracy_of
from nas_kd.errors import TrialError
from nas_kd.methods.base import Batch, Outputs
from nas_kd.methods.combine import make_method
from nas_kd.plugins import found
from nas_kd.store import Store

from .conftest import FP32, net, stripes

METHODS = [*found("method"), "soft_targets+similarity"]


def trained(setup: Setup, teacher: TeacherOutputs, method: str, until: int | None = None) -> Training:
    training = Training(net(4, seed=1, dropout=0.2), [teacher], make_method(method), setup, rebuild)
    training.run(until)
    return training


def rebuild(seed: int) -> nn.Module:
    return net(4, seed=seed, dropout=0.2)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_it_learns(setup: Setup, teacher: TeacherOutputs) -> None:
    long = replace(setup, schedule=replace(setup.schedule, epochs=20))
    x, y = stripes()
    student = trained(long, teacher, "none").averaged_students()[0]
    assert accuracy_of(student, Split(x, y), FP32) > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_equal_seeds_give_equal_weights_and_a_checkpoint_changes_nothing(
    method: str, setup: Setup, teacher: TeacherOutputs
) -> None:
    whole = trained(setup, teacher, method)
    first = trained(setup, teacher, method, until=2)
    torch.manual_seed(12345)  # whatever happened in between
    second = Training(net(4, seed=1, dropout=0.2), [teacher], make_method(method), setup, rebuild)
    second.restore({k: v.clone() for k, v in first.state().items()})
    assert second.epoch == 2
    second.run()
    assert same(weights(whole.averaged_students()[0]), weights(second.averaged_students()[0]))
    other = Training(net(4, seed=1, dropout=0.2), [teacher], make_method(method), replace(setup, seed=4), rebuild)
    other.run()
    assert not same(weights(whole.averaged_students()[0]), weights(other.averaged_students()[0]))


@pytest.mark.parametrize("method", METHODS)
def test_methods_leave_the_students_structure_alone(method: str, setup: Setup, teacher: TeacherOutputs) -> None:
    student = trained(setup, teacher, method, until=1).averaged_students()[0]
    assert weights(student).keys() == weights(net(4)).keys()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in student.modules())


@pytest.mark.parametrize("method", METHODS)
def test_bf16(method: str, setup: Setup, teacher: TeacherOutputs) -> None:
    training = trained(replace(setup, numerics=Numerics(bf16=True, channels_last=True)), teacher, method, until=1)
    assert all(torch.isfinite(t).all() for t in training.average)


def test_the_teacher_is_left_as_it_was(setup: Setup, teacher: TeacherOutputs) -> None:
    before = weights(teacher.teacher.model)
    trained(setup, teacher, "soft_targets+similarity")
    assert same(before, weights(teacher.teacher.model))
    assert all(p.grad is None for p in teacher.teacher.model.parameters())


@pytest.mark.parametrize("epoch", [0, 3])
def test_cached_logits_are_the_live_teachers_bit_for_bit(setup: Setup, teacher: TeacherOutputs, epoch: int) -> None:
    indices = torch.randperm(96, generator=torch.Generator().manual_seed(epoch))[:32]
    x = FP32.lay_out(setup.augmenter.batch(epoch, indices))
    tapped = teacher.tapped(frozenset({"logits"}))
    live, cached = teacher.live(tapped, x), teacher.cached(epoch, indices)
    tapped.close()
    assert torch.equal(live.logits, cached.logits)
    student = Outputs(torch.randn(32, 3), (), torch.zeros(32, 0))
    batch, method = Batch(x, setup.labels[indices], indices, 0.5), make_method("soft_targets")
    losses = [method(student, [t], batch)["soft_targets"] for t in (live, cached)]
    assert torch.equal(losses[0], losses[1])


def test_the_cache_survives_in_the_store(setup: Setup, teacher: TeacherOutputs, tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = TeacherOutputs(teacher.teacher, setup.augmenter, 32, FP32, store)
    logits = first.cached(1, torch.arange(96)).logits
    silent = net(12, seed=10).eval()  # another network under the same key: only the store can know the logits
    second = TeacherOutputs(replace(teacher.teacher, model=silent), setup.augmenter, 32, FP32, store)
    assert torch.equal(second.cached(1, torch.arange(96)).logits, logits)


def test_a_loss_that_is_not_finite_fails_with_its_epoch(setup: Setup) -> None:
    wild = replace(setup, schedule=replace(setup.schedule, learning_rate=1e30, clip_norm=1e30))
    with pytest.raises(TrialError, match=r"the loss became (nan|inf) in epoch \d+ of 6"):
        Training(net(4), [], make_method("none"), wild, rebuild).run()


def test_out_of_memory_is_said(setup: Setup) -> None:
    class Greedy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                torch.empty(2**60)
            out: torch.Tensor = self.net(x)
            return out

    with pytest.raises(TrialError, match="out of memory in epoch 1"):
        Training(Greedy(), [], make_method("none"), setup, rebuild).run()


def test_learning_rate_warms_up_and_ends_at_zero(setup: Setup) -> None:
    schedule = setup.schedule
    assert schedule.learning_rate_at(0.05) == pytest.approx(0.05)
    assert schedule.learning_rate_at(0.1) == pytest.approx(0.1)
    assert schedule.learning_rate_at(0.55) == pytest.approx(0.05)
    assert schedule.learning_rate_at(1.0) == pytest.approx(0.0)
