"""Measures a search's progress over its teacher as one number: the normalized hypervolume, and its history."""

from collections.abc import Iterable, Sequence
from math import inf, isfinite, log10

import numpy as np

from nas_kd.results.pareto import Points, contribution, hypervolume
from nas_kd.results.run_record import RunRecord, TeacherRecord
from nas_kd.results.trial_record import Costs, TrialRecord

Objectives = tuple[float, float, float]  # score on validation (0..1), size in bytes, median latency in ms
TRAINING_PARTS = ("assistants", "distill")  # of a trial's seconds


def normalized_hypervolume(points: Sequence[Objectives], teacher: TeacherRecord, chance: float) -> float:
    """Measure what candidates gain over the teacher in their score, size and latency together.

    It is the volume that `points` dominate in three coordinates, above the origin:

    - retained score, `(score - chance) / (teacher's score - chance)`: 0 is guessing, 1 is the teacher;
    - `log10(teacher's size / size)` and `log10(teacher's latency / latency)`: 1 is ten times smaller or faster.

    One candidate with the teacher's score at a tenth of both costs gives 1; a candidate that is larger or slower
    than the teacher gives 0.

    Args:
        points: objectives of each candidate, the score on the validation split.
        teacher: the reference network.
        chance: what guessing gets on validation.

    Raises:
        ValueError: the teacher is no better than chance, or its latency was not measured.
    """
    return hypervolume(_negated_gains(points, teacher, chance), np.zeros(3))


class IncrementalHypervolume:
    """Normalized hypervolume of candidates that arrive one at a time; a dominated one costs a single comparison.

    Args:
        teacher: the reference network.
        chance: what guessing gets on validation.
    """

    def __init__(self, teacher: TeacherRecord, chance: float) -> None:
        self._teacher, self._chance = teacher, chance
        self._front = np.empty((0, 3))
        self.volume = 0.0

    def add(self, val_score: float | None, costs: Costs | None) -> None:
        """Add a candidate to `volume`; one without a score, a size or a latency adds nothing.

        Nor does any beside a teacher that is no better than chance or was not measured: gains over it are not defined.
        """
        if not is_valid_reference(self._teacher, self._chance):
            return
        for row in _negated_gains(measured_objectives([(val_score, costs)]), self._teacher, self._chance):
            self._front, gained = _add_to_front(self._front, row)
            self.volume += gained


def hypervolume_history(run: RunRecord) -> list[tuple[float, float, float]]:
    """Compute how the hypervolume grew with every trial that was trained on the full search schedule.

    Training seconds include those of paused, pruned and failed trials, of assistants and of the once-for-all network.
    Neither clock includes training the teacher.

    Returns:
        (wall-clock s, training s spent by then, normalized hypervolume) after each finished trial, in order of time;
        empty without a teacher that was measured and is better than chance.
    """
    teacher = run.teacher
    if teacher is None or run.dataset is None or not is_valid_reference(teacher, run.chance):
        return []
    ended = sorted((t for t in run.trials if t.status != "running"), key=lambda t: (t.elapsed_s, t.number))
    trainings = _trainings_over_time(ended)
    growing, counted = IncrementalHypervolume(teacher, run.chance), 0
    training_s = run.once_for_all.training_s if run.once_for_all else 0.0
    history: list[tuple[float, float, float]] = []
    for trial in (t for t in ended if t.status == "finished"):
        while counted < len(trainings) and trainings[counted][:2] <= (trial.elapsed_s, trial.number):
            training_s += trainings[counted][2]
            counted += 1
        growing.add(trial.val_score, trial.costs)
        history.append((trial.elapsed_s, training_s, growing.volume))
    return history


def _trainings_over_time(trials: Iterable[TrialRecord]) -> list[tuple[float, int, float]]:
    """(wall-clock s, trial number, training s), in order of time.

    A trial records when it last changed. For a pruned one that is the end of the search, long after its training, but
    it was trained before any later trial was proposed. The first change of a later trial is therefore an upper bound
    on the time of its training; seconds before the last rung are counted there, rather too early than too late.
    """
    trainings, bound = [], inf
    for trial in sorted(trials, key=lambda t: -t.number):
        bound = min(bound, trial.elapsed_s)
        if trial.status != "duplicate":
            last = _last_rung_seconds(trial) if trial.status == "finished" else 0.0
            total = sum(trial.seconds.get(part, 0.0) for part in TRAINING_PARTS)
            trainings += [(bound, trial.number, total - last), (trial.elapsed_s, trial.number, last)]
    return sorted(trainings)


def _last_rung_seconds(trial: TrialRecord) -> float:
    """The share of the student's training seconds that its last rung took."""
    rungs, distill = [r.seconds for r in trial.rungs], trial.seconds.get("distill", 0.0)
    return distill * rungs[-1] / sum(rungs) if sum(rungs) > 0 else distill


def measured_objectives(candidates: Iterable[tuple[float | None, Costs | None]]) -> list[Objectives]:
    """Collect the objectives of the candidates that have a score and both costs.

    Args:
        candidates: (score on validation, costs) of each; those with an unknown or infinite value are left out.
    """
    known = [
        (score, costs.size_bytes, costs.latency_ms.p50)
        for score, costs in candidates
        if score is not None and costs is not None and costs.size_bytes is not None and costs.latency_ms is not None
    ]
    return [p for p in known if isfinite(p[0]) and p[1] > 0 and p[2] > 0 and isfinite(p[2])]


def is_valid_reference(teacher: TeacherRecord, chance: float) -> bool:
    """Return whether gains over this teacher are defined: it is better than chance, its size and latency are known.

    A teacher of other classes than the data's has no score to gain over.
    """
    known = teacher.costs.latency_ms is not None and teacher.costs.size_bytes is not None
    return known and teacher.val_score is not None and teacher.val_score.mean > chance


def _negated_gains(points: Sequence[Objectives], teacher: TeacherRecord, chance: float) -> Points:
    """Normalized coordinates (n, 3), negated: all are minimised and the reference is the origin."""
    latency = teacher.costs.latency_ms
    if latency is None:
        raise ValueError("the teacher's latency was not measured")
    if teacher.val_score is None:
        raise ValueError("the teacher has no score: its classes are not the data's")
    score = teacher.val_score.mean
    if score <= chance:
        raise ValueError(f"the teacher is no better than chance: {score:.3g}, guessing gets {chance:.3g}")
    size, margin = teacher.costs.require_size(), score - chance
    rows = [((chance - a) / margin, log10(s / size), log10(ms / latency.p50)) for a, s, ms in points]
    return np.array(rows).reshape(-1, 3)


def _add_to_front(front: Points, row: Points) -> tuple[Points, float]:
    """Return the front with one more point and the volume gained."""
    if (front <= row).all(axis=1).any() or (row >= 0).any():
        return front, 0.0
    gained = contribution(row, front, np.zeros(3))
    return np.vstack([front[(front < row).any(axis=1)], row]), gained
