"""Teachers that change over the schedule, and stages that do: who teaches when, cached as live, resumed to the bit."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nas_kd.engine.calibration import BATCHES
from nas_kd.engine.teacher_outputs import LiveTeacher, Teacher, TeacherOutputs
from nas_kd.engine.teachers_in_turn import TeachersInTurn
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.methods.base import Batch, Outputs
from nas_kd.methods.combine import make_method
from nas_kd.methods.teaching import with_teaching
from nas_kd.results.teaching import Teaching
from nas_kd.store.store import Store

from .conftest import FP32, net

N_TEACHERS = 3  # two checkpoints and the final network


@pytest.fixture(scope="module")
def networks() -> list[Teacher]:
    return [Teacher(net(12, seed=s).eval(), str(s) * 64, f"state {s}", 1, 1) for s in range(N_TEACHERS)]


def in_turn(setup: TrainingSetup, networks: list[Teacher], store: Store | None = None) -> TeachersInTurn:
    return TeachersInTurn([TeacherOutputs(t, setup.source.augmenter, 32, FP32, store) for t in networks])


def live(setup: TrainingSetup, networks: list[Teacher]) -> TeachersInTurn:
    return TeachersInTurn([LiveTeacher(t, setup.source.example(), FP32) for t in networks])


def batch(setup: TrainingSetup, epoch: int, progress: float) -> Batch:
    indices = torch.arange(32)
    x = FP32.to_layout(setup.source.augmenter.batch(epoch, indices))
    return Batch(x, setup.source.labels[indices], indices, progress)


def test_each_checkpoint_teaches_in_its_share_and_the_final_teacher_in_the_last(
    setup: TrainingSetup, networks: list[Teacher], tmp_path: Path
) -> None:
    """Cached logits of each are those of the network itself, to the bit."""
    store = Store(tmp_path)
    with ExitStack() as hooks:
        read = in_turn(setup, networks, store).reader(frozenset({"logits"}), setup.source.view, hooks)
        again = in_turn(setup, networks, store).reader(frozenset({"logits"}), setup.source.view, hooks)
        run = live(setup, networks).reader(frozenset({"logits"}), None, hooks)
        for progress, who in [(0.0, 0), (0.33, 0), (1 / 3, 1), (0.6, 1), (2 / 3, 2), (0.99, 2), (1.0, 2)]:
            shown = batch(setup, 1, progress)
            with torch.no_grad():
                expected = networks[who].model(shown.x)
            assert torch.equal(read(1, shown).logits, expected)
            assert torch.equal(again(1, shown).logits, expected)
            assert torch.equal(run(1, shown).logits, expected)
    assert store.misses["logits"] == N_TEACHERS
    assert store.hits["logits"] == N_TEACHERS


def test_features_are_those_of_the_network_whose_turn_it_is(setup: TrainingSetup, networks: list[Teacher]) -> None:
    with ExitStack() as hooks:
        read = live(setup, networks).reader(frozenset({"features"}), None, hooks)
        shown = [read(0, batch(setup, 0, progress)).features for progress in (0.1, 0.5, 0.9)]
        for teacher, features in zip(networks, shown, strict=True):
            extractor = hooks.enter_context(
                LiveTeacher(teacher, setup.source.example(), FP32).extractor(frozenset({"features"}))
            )
            with torch.no_grad():
                expected = extractor(batch(setup, 0, 0.0).x).features
            assert all(torch.equal(a, b) for a, b in zip(features, expected, strict=True))


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


Make = Callable[[str, Teaching], Training]


@pytest.fixture
def make(setup: TrainingSetup, networks: list[Teacher]) -> Make:
    def start(method: str, teaching: Teaching) -> Training:
        follows = teaching.progression == "checkpoints"
        teacher = in_turn(setup, networks if follows else networks[-1:])
        return Training(net(4, seed=1), [teacher], with_teaching(make_method(method), teaching), setup)

    return start


WAYS = [
    ("soft_targets", Teaching(standardize=True)),
    ("soft_targets", Teaching(standardize=True, progression="checkpoints")),
    ("fitnet", Teaching(progression="checkpoints")),
    ("fitnet", Teaching(progression="stages")),
    ("soft_targets+afd", Teaching(standardize=True, progression="stages")),
]


@pytest.mark.parametrize(("method", "teaching"), WAYS)
@pytest.mark.parametrize("stop", [3])
def test_a_checkpoint_of_the_training_changes_nothing(stop: int, method: str, teaching: Teaching, make: Make) -> None:
    whole, first, second = (make(method, teaching) for _ in range(3))
    whole.run()
    first.run(stop)
    torch.manual_seed(12345)  # whatever happened in between
    second.restore({k: v.clone() for k, v in first.state().items()})
    second.run()
    assert same(weights(whole.averaged_students()[0]), weights(second.averaged_students()[0]))
    usual = make(method, Teaching())
    usual.run()
    assert not same(weights(whole.averaged_students()[0]), weights(usual.averaged_students()[0]))


def test_cached_logits_train_the_same_student_as_live_ones(setup: TrainingSetup, networks: list[Teacher]) -> None:
    students = []
    for teacher in (in_turn(setup, networks), live(setup, networks)):
        training = Training(net(4, seed=1), [teacher], make_method("soft_targets"), setup)
        training.run()
        students.append(weights(training.student))
    assert same(*students)


def test_the_label_loss_is_that_of_the_logits_themselves(make: Make, setup: TrainingSetup) -> None:
    shown, terms = batch(setup, 0, 0.5), []
    student, teacher = (Outputs(net(w, seed=1).eval()(shown.x), (), torch.zeros(32, 0)) for w in (4, 12))
    for teaching in (Teaching(), Teaching(standardize=True)):
        terms.append(make("soft_targets", teaching).loss(student, [teacher], shown)[1])
    assert torch.equal(terms[0]["ce"], nn.functional.cross_entropy(student.logits, shown.y))
    assert torch.equal(terms[0]["ce"], terms[1]["ce"])
    assert not torch.equal(terms[0]["soft_targets"], terms[1]["soft_targets"])


def test_methods_on_standardised_logits_keep_their_published_weights(make: Make) -> None:
    plain, scaled = make("soft_targets+similarity", Teaching()), make("soft_targets+similarity", WAYS[0][1])
    for training in (plain, scaled):
        training.run(1)
    assert list(plain.calibration()) == ["soft_targets", "similarity"]
    assert list(scaled.calibration()) == ["similarity"]
    assert [float(part.scale) == 1.0 for part in scaled.method.parts()] == [True, False]


def test_every_stage_is_calibrated_by_itself_and_the_last_share_has_no_features(
    make: Make, setup: TrainingSetup
) -> None:
    training = make("fitnet", Teaching(progression="stages"))
    training.run(1)
    scales = training.calibration()
    assert list(scales) == ["fitnet_stage1", "fitnet_stage2"]
    assert all(scale != 1.0 for scale in scales.values())
    seen = []
    for epoch in range(1, setup.schedule.epochs + 1):
        training.run(epoch)
        seen.append(sorted(training.losses))
    assert seen[0] == seen[1] == ["ce", "fitnet_stage1"]  # six epochs, three shares
    assert seen[3] == ["ce", "fitnet_stage2"]
    assert seen[5] == ["ce"]


def test_progress_is_the_share_of_the_whole_schedule_also_where_it_restarts(
    setup: TrainingSetup, networks: list[Teacher]
) -> None:
    restarted = replace(setup, schedule=replace(setup.schedule, restarts=(2,)))
    training = Training(
        net(4, seed=1),
        [in_turn(setup, networks)],
        with_teaching(make_method("fitnet"), Teaching(progression="stages")),
        restarted,
    )
    training.run(2)
    assert sorted(training.losses) == ["ce", "fitnet_stage1"]
    training.run(4)
    assert sorted(training.losses) == ["ce", "fitnet_stage2"]


def test_calibration_asks_the_network_whose_turn_it_is(
    setup: TrainingSetup, networks: list[Teacher], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one comes in the middle of a short schedule, when the second of three networks teaches."""
    asked: list[float] = []
    read = TeachersInTurn.reader

    def watched(self: TeachersInTurn, *given: Any) -> Any:
        inner = read(self, *given)

        def shown(epoch: int, batch: Batch) -> Outputs:
            asked.append(batch.progress)
            return inner(epoch, batch)

        return shown

    monkeypatch.setattr(TeachersInTurn, "reader", watched)
    steps = setup.source.steps_per_epoch(32) * setup.schedule.epochs
    Training(net(4), [in_turn(setup, networks)], make_method("soft_targets"), setup, net).run()
    first, second = asked[:BATCHES], asked[BATCHES + steps // 2 : 2 * BATCHES + steps // 2]
    assert first == [0.0] * BATCHES
    assert second == [0.5] * BATCHES
