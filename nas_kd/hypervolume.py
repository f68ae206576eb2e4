"""How much a search has gained over its teacher, as one number: the normalised hypervolume, and its history."""

from collections.abc import Iterable, Sequence
from math import isfinite, log10
from typing import Literal

import numpy as np

from nas_kd.pareto import Points, contribution, hypervolume
from nas_kd.record import Costs, RunRecord, TeacherRecord

# Validation accuracy (0..1), size in bytes, median latency in milliseconds.
ProgressPoint = tuple[float, float, float]
TRAINING = ("assistants", "distil")


def normalised_hypervolume(points: Sequence[ProgressPoint], teacher: TeacherRecord, n_classes: int) -> float:
    """What candidates gain over the teacher, in accuracy, size and latency together.

    The volume that `points` dominate in the coordinates
    `(accuracy - chance) / (teacher's accuracy - chance)` (retention: 0 is guessing, 1 is the teacher),
    `log10(teacher's size / size)` and `log10(teacher's latency / latency)` (1: ten times smaller, ten times faster),
    above retention 0 and the teacher's costs. One candidate that keeps the teacher's accuracy at a tenth of both costs
    gives 1; one that is larger or slower than the teacher gives nothing. Accuracies are those of the validation split.

    Args:
        points: (validation accuracy, size in bytes, latency in ms) of each candidate.
        teacher: the reference.
        n_classes: chance is 1 / n_classes.

    Raises:
        ValueError: the teacher is no better than chance, or its latency was not measured.
    """
    table = _gains(points, teacher, n_classes)
    return hypervolume(table, np.zeros(3))


def hypervolume_2d(
    points: Sequence[ProgressPoint], teacher: TeacherRecord, n_classes: int, cost: Literal["size", "latency"]
) -> float:
    """As `normalised_hypervolume`, of accuracy and one cost: the area."""
    columns = [0, 1 if cost == "size" else 2]
    return hypervolume(_gains(points, teacher, n_classes)[:, columns], np.zeros(2))


def hypervolume_history(run: RunRecord) -> list[tuple[float, float, float]]:
    """(wall clock s, training s spent until then, normalised hypervolume) after each finished trial, in order of time.

    Training seconds are those of all trials, stopped and failed ones included. Empty without a measured teacher.
    """
    teacher, data = run.teacher, run.dataset
    if teacher is None or data is None or not is_reference(teacher, len(data.classes)):
        return []
    front, volume, training_s = np.empty((0, 3)), 0.0, 0.0
    history: list[tuple[float, float, float]] = []
    ended = (t for t in run.trials if t.fate != "running")
    for trial in sorted(ended, key=lambda t: (t.elapsed_s, t.number)):
        training_s += sum(trial.seconds.get(part, 0.0) for part in TRAINING)
        if trial.fate != "finished":
            continue
        for row in _gains(progress_points([(trial.val_accuracy, trial.costs)]), teacher, len(data.classes)):
            front, gained = _joined(front, row)
            volume += gained
        history.append((trial.elapsed_s, training_s, volume))
    return history


def progress_points(judged: Iterable[tuple[float | None, Costs | None]]) -> list[ProgressPoint]:
    """Points of those that have an accuracy and both costs."""
    known = [(a, c.size_bytes, c.latency_ms.p50) for a, c in judged if a is not None and c is not None and c.latency_ms]
    return [p for p in known if isfinite(p[0]) and p[1] > 0 and p[2] > 0 and isfinite(p[2])]


def is_reference(teacher: TeacherRecord, n_classes: int) -> bool:
    """Whether gains can be stated over this teacher: it is better than chance, and its latency was measured."""
    return teacher.costs.latency_ms is not None and teacher.val.mean > 1 / n_classes


def _gains(points: Sequence[ProgressPoint], teacher: TeacherRecord, n_classes: int) -> Points:
    """(n, 3), negated, so that all is minimised and the reference is the origin."""
    latency, chance = teacher.costs.latency_ms, 1 / n_classes
    if latency is None:
        raise ValueError("the teacher's latency was not measured")
    if teacher.val.mean <= chance:
        raise ValueError(f"the teacher is no better than chance: {teacher.val.mean:.3g} of {n_classes} classes")
    size, margin = teacher.costs.size_bytes, teacher.val.mean - chance
    rows = [((chance - a) / margin, log10(s / size), log10(ms / latency.p50)) for a, s, ms in points]
    return np.array(rows).reshape(-1, 3)


def _joined(front: Points, row: Points) -> tuple[Points, float]:
    """The front with one more point, and the volume gained; most points are dominated and cost one comparison."""
    if (front <= row).all(axis=1).any() or (row >= 0).any():
        return front, 0.0
    gained = contribution(row, front, np.zeros(3))
    return np.vstack([front[(front < row).any(axis=1)], row]), gained
