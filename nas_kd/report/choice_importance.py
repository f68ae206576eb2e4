"""How much of the variance in the trials' score each choice of the search explains."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_kd.results.trial_record import TrialRecord

BINS = 4  # groups of a choice that has many numeric values
MAX_DISTINCT = 8  # numeric values of a choice that are groups of their own
MIN_TRIALS = 20  # below this, shares of variance mean nothing


def choices_of(trial: TrialRecord, epochs: int) -> dict[str, str | float]:
    """List every choice of a candidate by name; of the chain, only its length.

    Args:
        trial: with a rung at `epochs`.
        epochs: of that rung; assistants are left out where the candidate was trained without them up to there.
    """
    candidate = trial.candidate
    student = {f"student: {k}": v for k, v in candidate.student.choices.items()}
    params = {f"method: {k}": v for k, v in candidate.recipe.params.items()}
    training = {f"training: {k}": v for k, v in candidate.recipe.training.items()}
    teaching = {f"teaching: {k}": v for k, v in candidate.recipe.teaching.to_json().items()}
    without = any(r.without_assistants for r in trial.rungs if r.epochs == epochs)
    chain = {"chain: assistants": 0 if without else len(candidate.assistants)}
    return {
        **student,
        **params,
        **training,
        **teaching,
        **chain,
        "method": candidate.recipe.method,
        "precision": candidate.precision,
    }


def comparable_scores(trials: Sequence[TrialRecord]) -> tuple[int, list[tuple[TrialRecord, float]]]:
    """Select the trials that reached the most common rung, with their score on validation (0..1) there.

    That is the first rung: trials on later ones are a selection, whose shares of variance would mislead.

    Args:
        trials: without duplicates.

    Returns:
        Epochs of the rung (of equally common ones, the highest), and (trial, score) pairs; 0 and [] without rungs.
    """
    reached = Counter(r.epochs for t in trials for r in t.rungs)
    if not reached:
        return 0, []
    common = max(reached.items(), key=lambda pair: (pair[1], pair[0]))[0]
    return common, [(t, r.val_score) for t in trials for r in t.rungs if r.epochs == common]


def choice_importances(choices: Sequence[Mapping[str, Any]], accuracies: Sequence[float]) -> dict[str, float]:
    """Compute the share of the accuracies' variance that each choice explains alone, largest first.

    It is Kelley's epsilon squared: the correlation ratio eta squared, less what as many groups explain by chance, and
    at least 0. Numeric choices with more than `MAX_DISTINCT` values are cut into quarters.

    Args:
        choices: of each trial, by name.
        accuracies: of each trial, in the same order.

    Returns:
        Shares (0..1) by name; empty below `MIN_TRIALS` trials or if all accuracies are equal.
    """
    values = np.asarray(accuracies, dtype=np.float64)
    if len(values) < MIN_TRIALS or not values.std():
        return {}
    names = sorted({name for c in choices for name in c})
    found = {name: _epsilon_squared(_groups([c.get(name) for c in choices]), values) for name in names}
    return dict(sorted(((n, s) for n, s in found.items() if s is not None), key=lambda pair: (-pair[1], pair[0])))


def _groups(column: Sequence[Any]) -> NDArray[np.intp]:
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in column)
    if numeric and len(set(column)) > MAX_DISTINCT:
        table = np.asarray(column, dtype=np.float64)
        return np.searchsorted(np.quantile(table, np.arange(1, BINS) / BINS), table)
    labels = sorted({str(v) for v in column})
    return np.array([labels.index(str(v)) for v in column])


def _epsilon_squared(groups: NDArray[np.intp], values: NDArray[np.float64]) -> float | None:
    kinds = np.unique(groups)
    if len(kinds) < 2 or len(kinds) > len(values) // 2:
        return None
    within = sum(float(((values[groups == k] - values[groups == k].mean()) ** 2).sum()) for k in kinds)
    total = float(((values - values.mean()) ** 2).sum())
    chance = (len(kinds) - 1) * within / (len(values) - len(kinds))
    return max(0.0, (total - within - chance) / total)
