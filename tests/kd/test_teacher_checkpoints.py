"""Checkpoints of a teacher that is trained here: taken on the way, found again, and which of them teaches."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback, EpochEnd, StopRun
from nas_kd.context.run_context import RunContext
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import InputError
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.ready_teacher import ReadyTeacher
from nas_kd.kd.teacher_checkpoints import snapshot_epochs
from nas_kd.kd.teachers import load_teachers, prepare_teachers
from nas_kd.kd.training_job import TrainedModel
from nas_kd.nas.gate import Gate
from nas_kd.results.candidate import Candidate, Recipe
from nas_kd.results.teaching import Teaching
from nas_kd.store.store import Store
from tests.small_runs import (
    SMALL_TEACHER,
    TrainingLog,
    distiller_of,
    measured_briefly,
    open_context,
    small_config,
)

pytestmark = pytest.mark.usefixtures("brief_measurements")
EPOCHS = 6
TRAINED = SMALL_TEACHER | {"epochs": EPOCHS}


def config_with(**teacher: Any) -> SearchConfig:
    return small_config(teacher=[TRAINED | teacher], distill={"methods": ["soft_targets"]})


def prepare(config: SearchConfig, folder: Path) -> tuple[RunContext, ReadyTeacher]:
    context = open_context(config, folder)
    gate = Gate(context, NetworkBuilder(context.data, context.space))
    return context, prepare_teachers(context, gate.of_file)[0]


def weights(teacher: Teacher) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in teacher.model.state_dict().items()}


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_snapshots_are_at_the_bounds_of_equal_shares() -> None:
    assert snapshot_epochs(0, 1) == []
    assert snapshot_epochs(2, 12) == [4, 8]
    assert snapshot_epochs(3, 30) == [8, 15, 22]
    assert snapshot_epochs(4, 5) == [1, 2, 3, 4]
    with pytest.raises(
        InputError, match=r"teacher.checkpoints must be < the epochs of the teacher's training, which are 5"
    ):
        snapshot_epochs(5, 5)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunContext, ReadyTeacher]:
    """The same teacher with two checkpoints."""
    with measured_briefly():
        return prepare(config_with(checkpoints=2), tmp_path_factory.mktemp("watched") / "run")


def test_the_final_teacher_is_the_same_as_without_checkpoints(
    watched: tuple[RunContext, ReadyTeacher], tmp_path: Path
) -> None:
    _, ready = watched
    (usual,) = load_teachers(open_context(config_with(), tmp_path))
    assert ready.teacher.key == usual.key
    assert same(weights(ready.teacher), weights(usual))
    assert usual.checkpoints == ()
    assert len({t.key for t in (ready.teacher, *ready.teacher.checkpoints)}) == 3
    assert [c.description for c in ready.record.checkpoints] == ["after epoch 2", "after epoch 4"]
    early, late = (c.val.mean for c in ready.record.checkpoints)
    assert early < ready.record.val.mean
    assert late <= ready.record.val.mean + 0.02
    assert ready.record.late_gain is not None


def test_they_are_found_again_and_an_interrupted_training_goes_on_to_the_same(
    watched: tuple[RunContext, ReadyTeacher], tmp_path: Path
) -> None:
    context, ready = watched
    (again,) = load_teachers(context)
    assert [t.key for t in again.checkpoints] == [t.key for t in ready.teacher.checkpoints]

    class Stopping(Callback):
        def on_epoch_end(self, event: EpochEnd) -> None:
            if event.epoch == 3:
                raise StopRun("killed")

    other = replace(context, store=Store(tmp_path), callback=Stopping())
    with pytest.raises(StopRun):
        load_teachers(other)
    (resumed,) = load_teachers(replace(other, callback=Callback()))
    assert resumed.key == ready.teacher.key
    assert same(weights(resumed), weights(ready.teacher))
    pairs = zip(resumed.checkpoints, ready.teacher.checkpoints, strict=True)
    assert all(a.key == b.key and same(weights(a), weights(b)) for a, b in pairs)


def distill(context: RunContext, teacher: Teacher, teaching: Teaching, method: str = "soft_targets") -> TrainedModel:
    student = context.space.size_ladder(6)[0]
    return distiller_of(context, [teacher]).distill(Candidate(student, (), Recipe(method, teaching=teaching)), 0, 3)


def test_a_checkpoint_teaches_as_if_it_were_the_teacher(watched: tuple[RunContext, ReadyTeacher]) -> None:
    context, ready = watched
    early = distill(context, ready.teacher, Teaching(checkpoint=1))
    itself = distill(context, ready.teacher.checkpoints[0], Teaching())
    final = distill(context, ready.teacher, Teaching())
    assert same(early.model.state_dict(), itself.model.state_dict())
    assert not same(early.model.state_dict(), final.model.state_dict())
    assert len({early.key, itself.key, final.key}) == 3
    plain = distill(context, replace(ready.teacher, checkpoints=()), Teaching())
    assert plain.key == final.key  # having checkpoints changes nothing
    with pytest.raises(
        InputError, match=r"checkpoint 3 of the teacher is to teach, and it has 2: see teacher.checkpoints"
    ):
        distill(context, ready.teacher, Teaching(checkpoint=3))


def test_a_student_that_follows_them_depends_on_all(watched: tuple[RunContext, ReadyTeacher]) -> None:
    context, ready = watched
    follow = Teaching(progression="checkpoints")
    followed = distill(context, ready.teacher, follow)
    fewer = distill(context, replace(ready.teacher, checkpoints=ready.teacher.checkpoints[:1]), follow)
    assert followed.key != fewer.key
    assert not same(followed.model.state_dict(), fewer.model.state_dict())


def test_rungs_of_one_schedule_go_on_where_the_last_one_stopped(watched: tuple[RunContext, ReadyTeacher]) -> None:
    context, ready = watched
    student = context.space.size_ladder(6)[1]
    for teaching, method in [
        (Teaching(progression="checkpoints"), "soft_targets"),
        (Teaching(progression="stages"), "afd"),
    ]:
        candidate = Candidate(student, (), Recipe(method, teaching=teaching))
        by_rungs, at_once = (distiller_of(context, [ready.teacher]) for _ in range(2))
        log = TrainingLog(by_rungs)
        by_rungs.distill(candidate, 0, 3, until=1, restarts=(1,))
        last = by_rungs.distill(candidate, 0, 3, restarts=(1,))
        assert log.epochs == [1, 2]
        at_once.trainer.cache.store = Store(context.store.root.parent / f"empty {method}")
        assert same(at_once.distill(candidate, 0, 3, restarts=(1,)).model.state_dict(), last.model.state_dict())


def test_assistants_learn_from_the_final_teacher(watched: tuple[RunContext, ReadyTeacher]) -> None:
    context, ready = watched
    small, larger = context.space.size_ladder(6)[:2]
    distiller = distiller_of(context, [ready.teacher])
    log = TrainingLog(distiller)
    candidate = Candidate(small, (larger,), Recipe("soft_targets", teaching=Teaching(standardize=True)))
    distiller.distill(candidate, 0, 2)
    assert log.teachers[0] == [ready.teacher.key]
    assert [job.recipe.teaching for job in log.jobs] == [Teaching(), Teaching(standardize=True)]
