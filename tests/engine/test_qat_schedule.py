"""Quantizers follow the schedule, the teacher stays in full precision, and a checkpoint changes nothing."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

from nas_kd.data.dataset import Split
from nas_kd.engine.qat_schedule import OBSERVED, QATSchedule
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import TeacherOutputs
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.methods.combine import make_method
from nas_kd.quantization.fake_quantized import FakeQuantized

from .conftest import net

EXAMPLE = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 255


def wrapped(seed: int = 1) -> FakeQuantized:
    return FakeQuantized(net(4, seed=seed), EXAMPLE)


def training(setup: TrainingSetup, teacher: TeacherOutputs, method: str = "soft_targets") -> Training:
    return Training(wrapped(), [teacher], make_method(method), setup, wrapped)


def phases(schedule: Schedule, steps: int, share: float) -> list[str]:
    qat = QATSchedule([wrapped()], schedule, steps, share)
    return [qat.phase(epoch, step) for epoch in range(schedule.epochs) for step in range(steps)]


def test_every_cycle_ends_quantized(setup: TrainingSetup) -> None:
    schedule = replace(setup.schedule, epochs=9, restarts=(1, 3))
    seen = phases(schedule, 100, 0.7)
    assert seen[:100] == ["off"] * 38 + ["observing"] * OBSERVED + ["on"] * 30
    assert Counter(seen[100:300]) == {"off": 140 - OBSERVED, "observing": OBSERVED, "on": 60}
    assert Counter(seen[300:]) == {"off": 420 - OBSERVED, "observing": OBSERVED, "on": 180}


@pytest.mark.parametrize(("steps", "share", "expected"), [(2, 0.0, "o|O"), (2, 0.99, "o|O"), (4, 0.5, "oo|OO")])
def test_short_cycles_observe_at_least_once_and_end_quantized(steps: int, share: float, expected: str) -> None:
    schedule = Schedule(1, 8, 0.1, 0.9, 0.0, 0.0, 0.1, 1.0)
    written = {"observing": "o", "on": "O", "off": "-"}
    assert "".join(written[p] for p in phases(schedule, steps, share)) == expected.replace("|", "")


def test_it_learns_ranges_and_leaves_the_teacher_alone(setup: TrainingSetup, teacher: TeacherOutputs) -> None:
    before = {k: v.clone() for k, v in teacher.teacher.model.state_dict().items()}
    run = training(setup, teacher)
    run.run(until=4)
    student = run.student
    assert isinstance(student, FakeQuantized)
    assert student.phase == "observing"
    run.run(until=5)
    observed = [((q.high.clamp_min(0) - q.low.clamp_max(0)) / 255).log().item() for q in student.ranges]
    assert student.phase == "on"
    learnt = [q.log_step.item() - o for q, o in zip(student.ranges, observed, strict=True)]
    assert sum(abs(change) > 1e-6 for change in learnt) > len(learnt) / 2
    assert all(abs(change) < 0.5 for change in learnt)
    assert not isinstance(teacher.teacher.model, FakeQuantized)
    assert all(torch.equal(v, before[k]) for k, v in teacher.teacher.model.state_dict().items())


def test_up_to_the_switch_it_is_the_training_without_quantizers(setup: TrainingSetup, teacher: TeacherOutputs) -> None:
    quantized = training(setup, teacher)
    plain = Training(net(4, seed=1), [teacher], make_method("soft_targets"), setup, lambda s: net(4, seed=s))
    for run in (quantized, plain):
        run.run(until=4)
    network = quantized.student.get_submodule("network")
    assert all(torch.equal(v, plain.student.state_dict()[k]) for k, v in network.state_dict().items())
    for run in (quantized, plain):
        run.run()
    assert not all(torch.equal(v, plain.student.state_dict()[k]) for k, v in network.state_dict().items())


def test_the_average_begins_anew_with_the_quantizers(setup: TrainingSetup, teacher: TeacherOutputs) -> None:
    run = training(replace(setup, qat_start=0.99), teacher)  # the last step alone
    run.run()
    averaged, live = run.averaged_students()[0].state_dict(), run.student.state_dict()
    steps = [k for k in live if k.endswith("log_step")]
    assert steps
    assert all((averaged[k] - live[k]).abs() < 0.1 for k in steps)


@pytest.mark.parametrize("until", [3, 5])
@pytest.mark.parametrize("method", ["soft_targets", "dml"])
def test_a_checkpoint_in_any_phase_changes_nothing(
    method: str, until: int, setup: TrainingSetup, teacher: TeacherOutputs
) -> None:
    whole = training(setup, teacher, method)
    whole.run()
    first = training(setup, teacher, method)
    first.run(until=until)
    second = training(setup, teacher, method)
    second.restore({k: v.clone() for k, v in first.state().items()})
    second.run()
    expected, got = (run.averaged_students()[0].state_dict() for run in (whole, second))
    assert all(torch.equal(v, got[k]) for k, v in expected.items())


def test_peers_are_quantized_too(setup: TrainingSetup, teacher: TeacherOutputs) -> None:
    run = training(setup, teacher, "dml")
    run.run()
    assert [n.phase for n in run.networks if isinstance(n, FakeQuantized)] == ["on"] * 3
    deployed, accuracy = run.deployed(Split(setup.source.augmenter.x, setup.source.labels))
    assert isinstance(deployed, FakeQuantized)
    assert accuracy > 0.4


@pytest.mark.parametrize("method", ["similarity", "fitnet", "one", "byot", "adversarial_logits", "dafl"])
def test_other_methods_can_work_with_it(method: str, setup: TrainingSetup, teacher: TeacherOutputs) -> None:
    run = training(replace(setup, schedule=replace(setup.schedule, epochs=1)), teacher, method)
    run.run()
    assert isinstance(run.student, nn.Module)
    assert all(torch.isfinite(t).all() for t in run.averaged_students()[0].state_dict().values())
