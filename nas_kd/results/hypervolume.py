"""How much a search has gained over its teacher, as one number: the normalised hypervolume, and its history."""

from collections.abc import Iterable, Sequence
from math import inf, isfinite, log10
from typing import Literal

import numpy as np

from nas_kd.results.pareto import Points, contribution, hypervolume
from nas_kd.results.records import Costs, RunRecord, TeacherRecord, TrialRecord

# Validation accuracy (0..1), size in bytes, median latency in milliseconds.
ProgressPoint = tuple[float, float, float]
TRAINING = ("assistants", "distill")


def normalized_hypervolume(points: Sequence[ProgressPoint], teacher: TeacherRecord, n_classes: int) -> float:
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


class IncrementalHypervolume:
    """`normalised_hypervolume` of candidates that come one by one: most are dominated, and cost one comparison.

    Raises:
        ValueError: as `normalised_hypervolume`, when something is added.
    """

    def __init__(self, teacher: TeacherRecord, n_classes: int) -> None:
        self._teacher, self._n_classes = teacher, n_classes
        self._front = np.empty((0, 3))
        self.volume = 0.0

    def add(self, val_accuracy: float | None, costs: Costs | None) -> None:
        """One more; whoever lacks an accuracy or a latency adds nothing."""
        for row in _gains(progress_points([(val_accuracy, costs)]), self._teacher, self._n_classes):
            self._front, gained = _joined(self._front, row)
            self.volume += gained


def hypervolume_2d(
    points: Sequence[ProgressPoint], teacher: TeacherRecord, n_classes: int, cost: Literal["size", "latency"]
) -> float:
    """As `normalised_hypervolume`, of accuracy and one cost: the area."""
    columns = [0, 1 if cost == "size" else 2]
    return hypervolume(_gains(points, teacher, n_classes)[:, columns], np.zeros(2))


def hypervolume_history(run: RunRecord) -> list[tuple[float, float, float]]:
    """(wall clock s, training s spent until then, normalised hypervolume) after each finished trial, in order of time.

    Only candidates trained in full count, each when it was told. Training seconds are those of all trials, waiting,
    stopped and failed ones and assistants included, and of the once-for-all network; neither clock has the teacher's.
    Empty without a measured teacher.
    """
    teacher, data = run.teacher, run.dataset
    if teacher is None or data is None or not is_reference(teacher, len(data.classes)):
        return []
    ended = sorted((t for t in run.trials if t.status != "running"), key=lambda t: (t.elapsed_s, t.number))
    spent = _training(ended)
    growing, passed = IncrementalHypervolume(teacher, len(data.classes)), 0
    training_s = run.once_for_all.training_s if run.once_for_all else 0.0
    history: list[tuple[float, float, float]] = []
    for trial in (t for t in ended if t.status == "finished"):
        while passed < len(spent) and spent[passed][:2] <= (trial.elapsed_s, trial.number):
            training_s += spent[passed][2]
            passed += 1
        growing.add(trial.val_accuracy, trial.costs)
        history.append((trial.elapsed_s, training_s, growing.volume))
    return history


def _training(trials: Iterable[TrialRecord]) -> list[tuple[float, int, float]]:
    """(wall clock s, trial, training s), in order of time.

    A trial says when its last news came; one that was stopped, that is when the search ended, long after its training.
    But it was started before later ones were proposed, so that the first news of any of these bounds the time: what was
    spent before the last rung is counted then, rather too early than too late.
    """
    spent, bound = [], inf
    for trial in sorted(trials, key=lambda t: -t.number):
        bound = min(bound, trial.elapsed_s)
        if trial.status != "duplicate":
            last = _last_rung(trial) if trial.status == "finished" else 0.0
            whole = sum(trial.seconds.get(part, 0.0) for part in TRAINING)
            spent += [(bound, trial.number, whole - last), (trial.elapsed_s, trial.number, last)]
    return sorted(spent)


def _last_rung(trial: TrialRecord) -> float:
    """Training seconds of the student's last rung, of what all of them took together."""
    rungs, distill = [r.seconds for r in trial.rungs], trial.seconds.get("distill", 0.0)
    return distill * rungs[-1] / sum(rungs) if sum(rungs) > 0 else distill


def progress_points(judged: Iterable[tuple[float | None, Costs | None]]) -> list[ProgressPoint]:
    """Points of those that have an accuracy and both costs."""
    measured = ((a, c, c.latency_ms) for a, c in judged if a is not None and c is not None)
    known = [(a, c.require_size(), latency.p50) for a, c, latency in measured if latency is not None]
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
    size, margin = teacher.costs.require_size(), teacher.val.mean - chance
    rows = [((chance - a) / margin, log10(s / size), log10(ms / latency.p50)) for a, s, ms in points]
    return np.array(rows).reshape(-1, 3)


def _joined(front: Points, row: Points) -> tuple[Points, float]:
    """The front with one more point, and the volume gained; most points are dominated and cost one comparison."""
    if (front <= row).all(axis=1).any() or (row >= 0).any():
        return front, 0.0
    gained = contribution(row, front, np.zeros(3))
    return np.vstack([front[(front < row).any(axis=1)], row]), gained
