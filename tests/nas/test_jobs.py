"""The jobs of a search: each survives the journey to a worker as JSON, and does what it is for."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_kd.commands.worker import JobRunner
from nas_kd.context.run_context import RunContext
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import TrialError
from nas_kd.kd.artifacts import ArtifactBuilder
from nas_kd.kd.distiller import Distiller
from nas_kd.nas.jobs import EvaluateSubnets, Job, PrecomputeTeacher, TrainFinalist, TrainTrial, job_from_json
from nas_kd.nas.search_plan import N_INITIAL_TRIALS
from nas_kd.results.candidate import Architecture, Candidate, Recipe
from nas_kd.results.trial_record import RungRecord, TrialRecord
from nas_kd.store.store import Store
from tests import records
from tests.small_runs import (
    TrainingLog,
    candidate_of,
    distiller_of,
    open_context,
    plain_candidate,
    small_config,
    untrained_teacher,
)

ARCHITECTURES = st.builds(
    Architecture, st.sampled_from(["resnet", "mobilenet"]), st.dictionaries(st.text("abc", min_size=1), st.integers())
)
CANDIDATES = st.builds(
    Candidate,
    ARCHITECTURES,
    st.lists(ARCHITECTURES, max_size=2).map(tuple),
    st.builds(Recipe, st.sampled_from(["dkd", "a+b"]), st.dictionaries(st.text("abc"), st.floats(0.1, 10))),
    st.sampled_from(["fp32", "int8"]),
    st.sampled_from(["sequential", "residual"]),
)
KEYS = st.lists(st.text("0123456789abcdef", min_size=1), max_size=2).map(tuple)
RECORDS = st.builds(
    lambda number, candidate, val, size, ms: records.trial(number, val, size, ms, candidate=candidate),
    st.integers(0, 10**6),
    CANDIDATES,
    st.none() | st.floats(0, 1),
    st.integers(1, 10**9),
    st.none() | st.floats(1e-6, 1e6),
)
JOBS = (
    st.builds(TrainTrial, RECORDS, KEYS)
    | st.builds(TrainFinalist, CANDIDATES, st.integers(0, 2**31 - 1), st.integers(1, 1000), KEYS)
    | st.builds(PrecomputeTeacher, st.lists(st.integers(0, 1000)).map(tuple))
    | st.builds(EvaluateSubnets, st.lists(ARCHITECTURES).map(tuple), st.text("0123456789abcdef"))
)


@given(JOBS)
def test_every_job_survives_json(job: Job) -> None:
    assert job_from_json(json.loads(json.dumps(job.to_json()))) == job


@pytest.mark.parametrize("value", [{}, {"kind": "train"}, {"kind": None, "epochs": [0]}])
def test_an_unknown_kind_is_refused_with_the_known_ones(value: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"unknown kind of job .*; known: train_trial, train_finalist, precompute_"):
        job_from_json(value)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    config = small_config(distill={"methods": ["soft_targets"], "epochs": 2}, search={"rungs": 2, "inherit": True})
    return open_context(config, tmp_path_factory.mktemp("jobs"))


@pytest.fixture(scope="module")
def teacher(context: RunContext) -> Teacher:
    return untrained_teacher(context, 0)


@pytest.fixture(scope="module")
def distiller(context: RunContext, teacher: Teacher) -> Distiller:
    return distiller_of(context, [teacher])


@pytest.fixture(scope="module")
def runner(context: RunContext, distiller: Distiller) -> JobRunner:
    return JobRunner.for_run(context, distiller, ArtifactBuilder.for_run(context))


def done(runner: JobRunner, job: Job) -> Any:
    """The job's result, as it comes back from a worker."""
    answer = json.loads(json.dumps(runner.handle(json.loads(json.dumps(job.to_json())))))
    assert answer.keys() == {"result"}
    return answer["result"]


@contextmanager
def looked_up(context: RunContext) -> Iterator[dict[str, tuple[int, int]]]:
    """Hits and misses of the store inside, by kind, once it is left."""
    found: dict[str, tuple[int, int]] = {}
    before = context.store.counts()
    yield found
    found |= {kind: counts for kind, counts in context.store.counts(before).items() if any(counts)}


def test_a_trial_is_trained_rung_by_rung(runner: JobRunner, context: RunContext) -> None:
    student = context.space.size_ladder(6)[1]
    begun = records.trial(3, None, 4000, 0.1, candidate=plain_candidate(student, "soft_targets"), status="running")
    first = TrainTrial(begun)
    paused = first.result(done(runner, first))
    assert (paused.number, paused.status, [r.epochs for r in paused.rungs]) == (3, "paused", [1])
    assert paused.val_accuracy == paused.rungs[0].val_accuracy
    last = TrainTrial(paused)
    finished = last.result(done(runner, last))
    assert (finished.status, [r.epochs for r in finished.rungs]) == ("finished", [1, 2])
    assert finished.rungs[0] == paused.rungs[0]
    assert finished.seconds["distill"] > paused.seconds["distill"] > begun.seconds["distill"]


LATER = N_INITIAL_TRIALS + 3  # the number of a trial that is not an initial one


class Chained:
    """Trials whose student has one assistant, trained on an empty store; what is really trained is noted."""

    def __init__(self, context: RunContext, teacher: Teacher, folder: Path, **further: Any) -> None:
        self.context = replace(context, store=Store(folder))
        self.distiller = distiller = distiller_of(self.context, [teacher])
        self.log = TrainingLog(distiller)
        self._runner = JobRunner.for_run(self.context, distiller, ArtifactBuilder.for_run(self.context))
        self.candidate = candidate_of(context, "soft_targets", 1, **further)

    def begun(self, number: int) -> TrialRecord:
        return records.trial(number, None, 4000, 0.1, candidate=self.candidate, status="running", seconds={})

    def trained(self, record: TrialRecord) -> TrialRecord:
        """Up to the next rung."""
        job = TrainTrial(record)
        result = job.result(done(self._runner, job))
        assert result.status in ("paused", "finished"), result.reason
        return result

    @property
    def trainings(self) -> list[tuple[bool, int]]:
        """Whether each was the student's, and for how many epochs."""
        return [
            (job.student == self.candidate.student, epochs)
            for job, epochs in zip(self.log.jobs, self.log.epochs, strict=True)
        ]


@pytest.fixture
def chained(context: RunContext, teacher: Teacher, tmp_path: Path) -> Chained:
    return Chained(context, teacher, tmp_path / "store")


def test_assistants_are_trained_once_their_candidate_is_promoted(chained: Chained) -> None:
    direct = records.trial(LATER, None, 4000, 0.1, candidate=chained.candidate.direct(), status="running", seconds={})
    alone, paused = chained.trained(direct), chained.trained(chained.begun(LATER + 1))
    assert chained.trainings == [(True, 1)]  # which they share
    assert paused.val_accuracy == alone.val_accuracy
    assert [(r.epochs, r.without_assistants) for r in (*alone.rungs, *paused.rungs)] == [(1, False), (1, True)]
    finished = chained.trained(paused)
    assert chained.trainings[1:] == [(False, 2), (True, 2)]  # the assistant in full, the student from its first epoch
    assert chained.log.teachers[2] != chained.log.teachers[0]
    assert [(r.epochs, r.without_assistants) for r in finished.rungs] == [(1, True), (2, False)]
    assert paused.seconds["assistants"] < finished.seconds["assistants"]


def test_a_promoted_candidates_seconds_are_those_of_all_its_epochs(chained: Chained) -> None:
    paused = chained.trained(chained.begun(LATER))
    long = paused.rungs[0].model_copy(update={"seconds": 1e6})  # as if the training that it leaves had taken days
    finished = chained.trained(paused.model_copy(update={"rungs": (long,)}))
    whole = chained.distiller.distill(chained.candidate, 0, 2, restarts=(1,))
    assert len(chained.trainings) == 3  # that one was in the store
    assert finished.rungs[1].seconds == pytest.approx(whole.seconds, abs=1e-4)
    assert whole.seconds > 0


def test_initial_trials_and_sums_have_their_assistants_from_the_start(
    chained: Chained, context: RunContext, teacher: Teacher, tmp_path: Path
) -> None:
    finished = chained.trained(chained.trained(chained.begun(N_INITIAL_TRIALS - 1)))
    assert chained.trainings == [(False, 2), (True, 1), (True, 1)]  # goes on where it was
    assert not any(r.without_assistants for r in finished.rungs)
    summed = Chained(context, teacher, tmp_path / "sums", policy="residual")
    finished = summed.trained(summed.trained(summed.begun(LATER)))
    assert summed.trainings == [(True, 1), (False, 1), (True, 1), (False, 2)]  # an assistant corrects a new student
    assert not any(r.without_assistants for r in finished.rungs)


def test_without_rungs_every_candidate_has_its_assistants(
    context: RunContext, teacher: Teacher, tmp_path: Path
) -> None:
    search = context.config.search.model_copy(update={"rungs": 1})
    one_rung = replace(context, config=context.config.model_copy(update={"search": search}))
    chained = Chained(one_rung, teacher, tmp_path)
    (rung,) = chained.trained(chained.begun(LATER)).rungs
    assert chained.trainings == [(False, 2), (True, 2)]
    assert (rung.epochs, rung.without_assistants) == (2, False)


def test_how_a_promoted_candidate_goes_on_follows_from_its_record(
    chained: Chained, context: RunContext, teacher: Teacher, tmp_path: Path
) -> None:
    paused = chained.trained(chained.begun(LATER))
    elsewhere = Chained(context, teacher, tmp_path / "other")  # nothing of it is in this store
    finished, again = chained.trained(paused), elsewhere.trained(paused)
    assert [(r.epochs, r.val_accuracy) for r in again.rungs] == [(r.epochs, r.val_accuracy) for r in finished.rungs]


def test_a_trial_that_cannot_be_trained_fails_with_the_reason(context: RunContext, teacher: Teacher) -> None:
    steep = context.config.distill.model_copy(update={"clip_norm": 1e30})
    distiller = distiller_of(context, [teacher])
    distiller.trainer.options = steep
    distiller.trainer.recipe = replace(context.recipe, learning_rate=1e30)
    runner = JobRunner.for_run(context, distiller, ArtifactBuilder.for_run(context))
    job = TrainTrial(records.trial(4, None, 4000, 0.1, candidate=plain_candidate(context.space.size_ladder(6)[1])))
    failed = job.result(done(runner, job))
    assert failed.status == "failed"
    assert failed.reason is not None
    assert failed.reason.startswith("the loss became ")


def test_a_finalists_verified_file_is_in_the_store(
    runner: JobRunner, context: RunContext, distiller: Distiller
) -> None:
    candidate = plain_candidate(context.space.size_ladder(6)[1], "soft_targets")
    assert done(runner, TrainFinalist(candidate, 7, 2)) is None
    with looked_up(context) as found:
        file = ArtifactBuilder.for_run(context).verified_file(distiller.distill(candidate, 7, 2), candidate.precision)
    assert found == {"weights": (1, 0), "file": (2, 0)}
    assert file.agreement >= 0.999


def test_jobs_name_the_weights_that_networks_may_start_from(
    runner: JobRunner, context: RunContext, distiller: Distiller
) -> None:
    student = context.space.size_ladder(6)[1]
    source = distiller.distill(plain_candidate(student), 0, 1).key
    candidate = plain_candidate(student, "soft_targets")
    inheriting = distiller.inheriting_from((source,)).distill
    done(runner, TrainFinalist(candidate, 8, 2, (source,)))
    with looked_up(context) as found:
        inheriting(candidate, 8, 2)
    assert found == {"weights": (2, 0)}  # the source, and what was trained from it
    rung = RungRecord(epochs=1, val_accuracy=0.5, seconds=1.0)
    done(runner, TrainTrial(records.trial(5, None, 4000, 0.1, candidate=candidate, rungs=(rung,)), (source,)))
    with looked_up(context) as found:
        inheriting(candidate, 0, 2, restarts=(1,))
    assert found == {"weights": (2, 0)}


def test_teachers_outputs_are_left_in_the_store(runner: JobRunner, context: RunContext, distiller: Distiller) -> None:
    assert done(runner, PrecomputeTeacher((0,))) is None
    outputs = distiller_of(context, distiller.first_teacher()).trainer.outputs
    with looked_up(context) as found:
        outputs.precompute(("soft_targets",), [0], context.callback)
    assert found == {"logits": (1, 0)}


def test_parts_of_a_network_are_judged_with_its_weights(
    runner: JobRunner, context: RunContext, teacher: Teacher
) -> None:
    """An untrained network stands for a trained elastic one."""
    whole = context.space.size_ladder(6)[4]
    trained = {k: v.contiguous() for k, v in teacher.model.state_dict().items()}
    context.store.save("weights", teacher.key, trained, {})
    job = EvaluateSubnets((context.space.size_ladder(6)[0], whole), teacher.key)
    accuracies = job.result(done(runner, job))
    assert set(accuracies) == set(job.architectures)
    assert all(0 <= accuracy <= 1 for accuracy in accuracies.values())
    with looked_up(context) as found:
        assert job.result(done(runner, job)) == accuracies
    assert found == {"inherited": (2, 0)}
    with pytest.raises(TrialError, match="no longer in the store"):
        done(runner, EvaluateSubnets((whole,), "0" * 64))


def test_a_part_that_cannot_be_built_is_left_out(runner: JobRunner, context: RunContext, teacher: Teacher) -> None:
    whole, impossible = context.space.size_ladder(6)[4], Architecture("resnet", {"width_1": 5})
    context.store.save("weights", teacher.key, {k: v.contiguous() for k, v in teacher.model.state_dict().items()}, {})
    job = EvaluateSubnets((impossible, whole), teacher.key)
    assert set(job.result(done(runner, job))) == {whole}
