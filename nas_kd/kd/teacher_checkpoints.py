"""Earlier states of a teacher, which may teach in its place: the user's files, or snapshots of its training here.

A teacher that was stopped early can teach a small student better than the final one (Cho & Hariharan 2019,
arXiv:1910.01348).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from nas_kd.config.options import TeacherOptions
from nas_kd.context.run_context import RunContext
from nas_kd.data.dataset import Dataset
from nas_kd.engine.evaluation import evidence_of
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import InputError
from nas_kd.kd.onnx_teacher import from_onnx
from nas_kd.kd.training_job import TrainedModel, TrainingJob
from nas_kd.kd.user_teachers import from_factory
from nas_kd.results.run_record import CheckpointRecord

OPTION = "teacher.checkpoints"


def snapshot_epochs(n: int, epochs: int) -> list[int]:
    """Epochs after which a training is kept: the n inner bounds of n + 1 equal shares of it.

    Args:
        n: number of snapshots.
        epochs: of the training.

    Raises:
        InputError: it has too few epochs.
    """
    if n >= epochs:
        raise InputError(f"{OPTION} must be < the epochs of the teacher's training, which are {epochs}, got {n}")
    return [round(k * epochs / (n + 1)) for k in range(1, n + 1)]


def train_snapshots(
    job: TrainingJob,
    epochs: Sequence[int],
    train: Callable[[TrainingJob], TrainedModel],
    as_teacher: Callable[[TrainedModel], Teacher],
) -> tuple[Teacher, ...]:
    """Train a teacher up to each of its snapshots, or find them in the store; the rest of the job goes on from there.

    Args:
        job: the teacher's whole training.
        epochs: after which its network is kept, rising.
        train: does a job.
        as_teacher: what it gave as a teacher.

    Raises:
        TrialError: the training fails.
    """
    taken = [(epoch, as_teacher(train(replace(job, until=epoch)))) for epoch in epochs]
    return tuple(replace(t, description=f"after epoch {epoch}") for epoch, t in taken)


def given_checkpoints(options: TeacherOptions, data: Dataset, final: Teacher) -> tuple[Teacher, ...]:
    """Read a given teacher's checkpoints, early to late.

    Args:
        options: of the teacher.
        data: that it is to be shown.
        final: the teacher itself.

    Raises:
        InputError: one of them cannot be read, is of another network, or is the same as another one.
    """
    files = options.checkpoints if isinstance(options.checkpoints, tuple) else ()
    found = [replace(_given(options, path, data), description=path.name) for path in files]
    known = {final.key: "the final teacher"}
    for teacher in found:
        if teacher.key in known:
            raise InputError(f"{OPTION}: {teacher.description}: has the same content as {known[teacher.key]}")
        known[teacher.key] = teacher.description
    return tuple(found)


def _given(options: TeacherOptions, path: Path, data: Dataset) -> Teacher:
    if options.onnx is None:
        found = from_factory(options.model_copy(update={"weights": path}), data, OPTION)
        if found.head is not None:
            raise InputError(f"{OPTION}: {path.name}: is of {found.head.n_classes} classes, the data have others")
        return found.teacher
    try:
        return from_onnx(options.model_copy(update={"onnx": path}), data).teacher
    except InputError as error:
        raise InputError(f"{OPTION}: {error}") from error


def judged_checkpoints(teachers: Sequence[Teacher], context: RunContext) -> tuple[CheckpointRecord, ...]:
    """Judge checkpoints on the validation split.

    Args:
        teachers: the checkpoints.
        context: of the run, as teachers see it.
    """
    data = context.data
    found = [(t, evidence_of(t.model, data.val, data.task, context.numerics)) for t in teachers]
    return tuple(
        CheckpointRecord(description=t.description, val=data.task.headline_score.of(e), val_score=context.score.of(e))
        for t, e in found
    )
