"""The prefilter: on devices that measure slowly, candidates that are expected far above the latency limit are skipped.

It only ever rejects, and only by a lower bound of the latency that it expects from this run's own measurements; what it
lets through is measured like everybody else, so that no front holds a predicted figure. A tenth of those it doubts is
measured all the same: the model goes on learning where it looks no more, and the record shows how often it was wrong.

A decision follows from the records of the trials before it alone, so that a resumed run decides alike.
"""

from collections.abc import Iterable
from statistics import median

from nas_kd.config.options import Budget
from nas_kd.kd.chain_policies.base import load_policy
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.nas.cost_model import CostModel
from nas_kd.results.candidate import Candidate
from nas_kd.results.records import Costs, Forecast, Latency, PrefilterRecord, TrialRecord

RISK = 0.05  # one-sided: how many networks may be faster than the bound says
FEWEST = round(1 / RISK) - 1  # measured networks, below which there is no such bound
CHECK_EVERY = 10  # doubted trials; the first of them is measured all the same


def forecast(
    candidate: Candidate, number: int, trials: Iterable[TrialRecord], builder: NetworkBuilder, budget: Budget
) -> Forecast | None:
    """What is to be expected of trial `number`'s latency, from the trials before it; None: there is no telling.

    That is so while too few were measured, for sums of networks, and where latency is not limited.
    """
    if budget.max_latency_ms is None or _is_sum(candidate):
        return None
    measured = {}
    for trial in sorted(trials, key=lambda t: t.number):
        other = trial.candidate
        alike = other.precision == candidate.precision and not _is_sum(other)
        if trial.number < number and alike and isinstance(trial.costs, Costs) and trial.costs.latency_ms:
            measured[other.student] = trial.costs
    if len(measured) < FEWEST:
        return None
    model = CostModel(builder, budget)
    model.fit(measured)
    expected, least = model.latency_floor(candidate.student, RISK)
    return Forecast(expected=expected, least=least, doubted=least > budget.max_latency_ms)


def _is_sum(candidate: Candidate) -> bool:
    """Whether several networks are deployed as one."""
    return len(load_policy(candidate.policy).deployed(candidate)) > 1


def is_skipped(made: Forecast | None, number: int, trials: Iterable[TrialRecord]) -> bool:
    """Whether trial `number` need not be measured: it is doubted, and not one of those that are checked."""
    if made is None or not made.doubted:
        return False
    doubted = sum(t.number < number and t.forecast is not None and t.forecast.doubted for t in own_trials(trials))
    return doubted % CHECK_EVERY != 0


def skipped_words(made: Forecast, budget: Budget) -> str:
    """Why a trial was rejected unmeasured."""
    limit = f"{budget.max_latency_ms:g} ms" if budget.max_latency_ms is not None else "none"
    bound = f"expected at {made.expected:.4g} ms, at least {made.least:.4g} ms (95 % bound)"
    return f"not measured: {bound}, limit {limit}"


def prefilter_record(trials: Iterable[TrialRecord], budget: Budget) -> PrefilterRecord | None:
    """What the prefilter did in these trials; None: nothing was forecast."""
    made = [(t.forecast, _latency(t)) for t in own_trials(trials) if t.forecast is not None]
    if not made:
        return None
    errors = [abs(f.expected / latency.p50 - 1) for f, latency in made if latency is not None]
    checked = [latency for f, latency in made if f.doubted and latency is not None]
    limit = budget.max_latency_ms or 0.0
    return PrefilterRecord(
        forecasts=len(made),
        skipped=sum(f.doubted and latency is None for f, latency in made),
        checked=len(checked),
        wrong=sum(latency.p50 <= limit for latency in checked),
        error=round(median(errors), 4) if errors else None,
    )


def own_trials(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Without duplicates, which repeat another's results."""
    return [t for t in trials if t.status != "duplicate"]


def _latency(trial: TrialRecord) -> Latency | None:
    return trial.costs.latency_ms if isinstance(trial.costs, Costs) else None
