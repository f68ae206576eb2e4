"""Trials that another program put into a run's study: used where they fit the search space, else ignored.

A dashboard or a plain Optuna script may enqueue parameters, leave an asked trial under way, or add finished trials.
Parameters that fit are proposed as candidates of this run; finished trials that fit inform the sampler. A trial that
was there before this run's first and has other choices for a parameter ends the run: Optuna keeps the first choices.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    IntDistribution,
    check_distribution_compatibility,
)
from optuna.trial import FrozenTrial, TrialState

from nas_kd.config.options import Budget
from nas_kd.errors import InputError
from nas_kd.nas.feasibility import log_excess
from nas_kd.nas.sampler_view import constrained
from nas_kd.nas.samplers.base import Space
from nas_kd.results.latency import Latency
from nas_kd.results.trial_record import Costs

FIXED_PARAMS = "fixed_params"  # Optuna's system attribute with the parameters of `Study.enqueue_trial`


class _DoesNotFit(ValueError):
    """Why a trial cannot be used."""


@dataclass(frozen=True)
class ForeignTrials:
    """How the sampler's copy of the study shows other programs' trials.

    Attributes:
        shown: by number: waiting (to be proposed), complete (informs the sampler) or failed (ignored).
        reasons: why trials are ignored -> how many are.
    """

    shown: Mapping[int, FrozenTrial] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)

    def describe(self) -> str:
        """Describe in one line what becomes of them; empty if there are none."""
        states = Counter(trial.state for trial in self.shown.values())
        counts = {
            "proposed": states[TrialState.WAITING],
            "shown to the sampler": states[TrialState.COMPLETE],
            "ignored": states[TrialState.FAIL],
        }
        parts = [f"{number} {what}" for what, number in counts.items() if number]
        if not parts:
            return ""
        reason = f" ({next(iter(self.reasons))}{', ...' if len(self.reasons) > 1 else ''})" if self.reasons else ""
        return f"trials that another program put into the study: {', '.join(parts)}{reason}"


def ignored(trials: Iterable[FrozenTrial]) -> dict[int, FrozenTrial]:
    """Show trials as failed, which samplers pass over; by number."""
    return {trial.number: optuna.trial.create_trial(state=TrialState.FAIL) for trial in trials}


def fit_foreign_trials(trials: Iterable[FrozenTrial], space: Space, budget: Budget) -> ForeignTrials:
    """Find out which of other programs' trials this run can use.

    Args:
        trials: as they are stored.
        space: all parameters of the search, by name.
        budget: limits of costs, which finished trials are compared with.
    """
    shown: dict[int, FrozenTrial] = {}
    reasons: Counter[str] = Counter()
    for trial in trials:
        try:
            shown[trial.number] = _fitted(trial, space, budget)
        except _DoesNotFit as reason:
            shown |= ignored([trial])
            reasons[str(reason)] += 1
    return ForeignTrials(shown, reasons)


@contextmanager
def clashes_explained(path: Path, foreign: Callable[[], Iterable[FrozenTrial]], space: Space) -> Iterator[None]:
    """Explain inside why Optuna refuses to store a trial beside those of other programs.

    A study in a database has one kind of values for a parameter, and one set of choices, whichever trial came first.

    Args:
        path: of the database.
        foreign: reads other programs' trials as they are stored.
        space: all parameters of the trial that is stored, by name.

    Raises:
        InputError: names the trial that is in the way, and the parameter.
    """
    try:
        yield
    except ValueError as error:
        if not (clash := _clashing_trial(foreign(), space)):
            raise
        raise InputError(
            f"{path}: {clash}, and Optuna keeps one kind of values for each parameter of a study; begin anew in "
            "another --run-dir"
        ) from error


def _clashing_trial(trials: Iterable[FrozenTrial], space: Space) -> str:
    """The first parameter that does not go with this search's own, in words; empty if there is none."""
    for trial in trials:
        for name in trial.distributions.keys() & space.keys():
            try:
                check_distribution_compatibility(trial.distributions[name], space[name])
            except ValueError:
                theirs, own = _values(trial.distributions[name]), _values(space[name])
                return f"trial {trial.number} of another program has {name!r} with {theirs}, this search with {own}"
    return ""


def _values(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return f"choices {', '.join(map(str, distribution.choices))}"
    kind = "whole numbers" if isinstance(distribution, IntDistribution) else "numbers"
    return f"{kind} on a logarithmic scale" if getattr(distribution, "log", False) else kind


def _fitted(trial: FrozenTrial, space: Space, budget: Budget) -> FrozenTrial:
    """How a trial is shown.

    Raises:
        _DoesNotFit: it cannot be used.
    """
    if trial.state in (TrialState.FAIL, TrialState.PRUNED):
        raise _DoesNotFit(f"trial {trial.number} did not complete")
    fixed = trial.system_attrs.get(FIXED_PARAMS)
    given: dict[str, Any] = {**(fixed if isinstance(fixed, Mapping) else {}), **trial.params}
    if unknown := sorted(given.keys() - space.keys()):
        raise _DoesNotFit(f"trial {trial.number} has {unknown[0]!r}, which this search does not have")
    params = {name: _contained(trial, name, value, space[name]) for name, value in given.items()}
    rest_is_drawn = trial.state == TrialState.WAITING or (fixed is not None and trial.state == TrialState.RUNNING)
    if not rest_is_drawn and (missing := sorted(space.keys() - params.keys())):
        raise _DoesNotFit(f"trial {trial.number} has no {missing[0]!r}")
    if trial.state == TrialState.COMPLETE:
        return _with_values(trial, params, space, budget)
    return optuna.trial.create_trial(state=TrialState.WAITING, system_attrs={FIXED_PARAMS: params})


def _contained(trial: FrozenTrial, name: str, value: Any, distribution: BaseDistribution) -> Any:
    """The value as this search has it."""
    try:
        internal = distribution.to_internal_repr(value)
        inside = distribution._contains(internal)
    except (ValueError, TypeError):
        inside = False
    if not inside:
        raise _DoesNotFit(f"trial {trial.number} has {name} = {value!r}, which is outside of this search's values")
    return distribution.to_external_repr(internal)


def _with_values(trial: FrozenTrial, params: Mapping[str, Any], space: Space, budget: Budget) -> FrozenTrial:
    values = trial.values or []
    if len(values) != 3 or not all(map(isfinite, values)):
        raise _DoesNotFit(f"trial {trial.number} has no accuracy, size and latency")
    accuracy, size_bytes, ms = values
    if not 0 <= accuracy <= 1 or size_bytes <= 0 or ms <= 0:
        raise _DoesNotFit(f"trial {trial.number} has values that are no accuracy (0..1), bytes and milliseconds")
    latency = Latency(p50=ms, p90=ms, low=ms, high=ms)
    costs = Costs(parameters=1, macs=1, size_bytes=max(1, round(size_bytes)), latency_ms=latency)
    return optuna.trial.create_trial(
        state=TrialState.COMPLETE,
        values=values,
        params=dict(params),
        distributions=dict(space),
        system_attrs=constrained(log_excess(costs, budget)),
    )
