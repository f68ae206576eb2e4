"""The sampler's view of the study: all trials at one fidelity, as mixing rungs would mislead it.

It learns from the highest rung that enough candidates have reached (as in BOHB, Falkner et al. 2018, arXiv:1807.01774):
full trainings are too few. Its view of a trial follows from the trial's record and that rung alone, so that a resumed
run gives it the same view.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import optuna
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from nas_kd.nas.samplers.base import STARTUP_TRIALS, optuna_silenced
from nas_kd.results.trial_record import TrialRecord

Direction = Literal["maximize", "minimize"]
DIRECTIONS: tuple[Direction, ...] = ("maximize", "minimize", "minimize")  # validation accuracy, bytes, ms
CONSTRAINT = "budget"


def common_rung(reached: Mapping[int, int]) -> int:
    """Epochs of the highest rung that enough trials have reached; while there is none, of the lowest; 0: none at all.

    Args:
        reached: epochs of each rung -> how many trials reached it.
    """
    return max((e for e, n in reached.items() if n >= STARTUP_TRIALS), default=min(reached, default=0))


def outcome(record: TrialRecord, epochs: int) -> dict[str, Any] | None:
    """Arguments of Optuna's `tell` for a trial judged at one rung: values, or a state; None: it is under way.

    Args:
        record: of the trial.
        epochs: of the rung.
    """
    level = next((level for level, rung in enumerate(record.rungs) if rung.epochs == epochs), None)
    if level is None:
        if record.status in ("paused", "running"):
            return None
        return {"state": TrialState.FAIL if record.status == "failed" else TrialState.PRUNED}
    values = tuple(map(float, record.objectives(level)))
    if not all(map(math.isfinite, values)):
        raise ValueError(f"objectives must be finite, got {values}")
    return {"values": values}


def constrained(violation: float) -> dict[str, Any]:
    """The system attributes in which Optuna stores a trial's constraint."""
    return optuna.trial.create_trial(state=TrialState.PRUNED, constraints={CONSTRAINT: violation}).system_attrs


def copy_in_memory(
    trials: Sequence[FrozenTrial],
    records: Mapping[int, TrialRecord],
    epochs: int,
    violation: Callable[[TrialRecord], float],
    foreign: Mapping[int, FrozenTrial] | None = None,
) -> Study:
    """Copy trials into a study in memory, with the results that they had at one rung.

    Args:
        trials: of the stored study.
        records: of these trials, by number.
        epochs: of the rung.
        violation: by how much a trial misses the budget; feasible at <= 0.
        foreign: by number, how trials of other programs are shown.
    """
    shown = foreign or {}
    with optuna_silenced():
        study = optuna.create_study(directions=DIRECTIONS, sampler=RandomSampler(seed=0))
        study.add_trials([shown.get(trial.number) or _under_way(trial) for trial in trials])
        for trial in study.get_trials(deepcopy=False):
            if (record := records.get(trial.number)) is not None:
                tell(study, record, epochs, violation)
    return study


def tell(study: Study, record: TrialRecord, epochs: int, violation: Callable[[TrialRecord], float]) -> None:
    """Tell a study in memory the outcome of a trial, if there is one that it does not have yet.

    Args:
        study: in memory.
        record: of the trial.
        epochs: of the rung that trials are compared at.
        violation: by how much a trial misses the budget; feasible at <= 0.
    """
    trial = study.get_trials(deepcopy=False)[record.number]
    if trial.state.is_finished() or (ended := outcome(record, epochs)) is None:
        return
    with optuna_silenced():
        Trial(study, trial._trial_id).set_constraint(CONSTRAINT, violation(record))
        study.tell(record.number, **ended)


def _under_way(trial: FrozenTrial) -> FrozenTrial:
    """The same proposal as it was before it had any result."""
    return optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
        system_attrs={k: v for k, v in trial.system_attrs.items() if not k.endswith(f":{CONSTRAINT}")},
    )
