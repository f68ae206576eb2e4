"""The prefilter: on devices that measure slowly, skips candidates that are expected to be far above the latency limit.

It only ever rejects, and only by a lower bound of the latency, predicted from this run's own measurements. All other
candidates are measured as usual, so that no front holds a predicted figure. One in ten of the candidates that it doubts
is measured all the same: the model goes on learning where it would no longer look, and the record shows how often it
was wrong.

A decision depends only on the records of earlier trials, so that a resumed run decides alike.
"""

from collections.abc import Iterable
from statistics import median

from nas_kd.config.options import Budget
from nas_kd.kd.chain_policies.base import load_policy
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.nas.cost_model import CostModel
from nas_kd.results.candidate import Architecture, Candidate
from nas_kd.results.latency import Latency
from nas_kd.results.run_record import PrefilterRecord
from nas_kd.results.trial_record import Costs, Forecast, TrialRecord, without_duplicates

RISK = 0.05  # one-sided: share of networks that may be faster than the bound
MIN_MEASURED = round(1 / RISK) - 1  # with fewer measured networks there is no such bound
CHECK_EVERY = 10  # of this many doubted trials in a row, the first is measured all the same


def forecast(
    candidate: Candidate, number: int, trials: Iterable[TrialRecord], builder: NetworkBuilder, budget: Budget
) -> Forecast | None:
    """Predict the latency of a trial from the trials before it.

    Args:
        candidate: What trial `number` proposes.
        number: Number of the trial.
        trials: Trials so far, in any order; later ones are ignored.
        builder: Builds and counts networks.
        budget: The run's budget.

    Returns:
        None while too few networks were measured, for sums of networks, and where latency is not limited.
    """
    if budget.max_latency_ms is None or _is_sum(candidate):
        return None
    measured: dict[Architecture, Costs] = {}
    for trial in sorted(trials, key=lambda t: t.number):
        other = trial.candidate
        alike = other.precision == candidate.precision and not _is_sum(other)
        if trial.number < number and alike and trial.costs and trial.costs.latency_ms:
            measured[other.student] = trial.costs
    if len(measured) < MIN_MEASURED:
        return None
    model = CostModel(builder, budget)
    model.fit(measured)
    expected, least = model.latency_floor(candidate.student, RISK)
    return Forecast(expected=expected, least=least, doubted=least > budget.max_latency_ms)


def _is_sum(candidate: Candidate) -> bool:
    """Whether several networks are deployed as one."""
    return len(load_policy(candidate.policy).deployed(candidate)) > 1


def is_skipped(prediction: Forecast | None, number: int, trials: Iterable[TrialRecord]) -> bool:
    """Whether a trial is rejected unmeasured: it is doubted, and not one of those that are checked.

    Args:
        prediction: The trial's forecast, if there is one.
        number: Number of the trial.
        trials: Trials so far, in any order; later ones are ignored.
    """
    if prediction is None or not prediction.doubted:
        return False
    doubted = sum(
        t.number < number and t.forecast is not None and t.forecast.doubted for t in without_duplicates(trials)
    )
    return doubted % CHECK_EVERY != 0


def describe_skip(prediction: Forecast, budget: Budget) -> str:
    """Why a trial was rejected unmeasured, with the expected latency, its bound and the limit."""
    limit = f"{budget.max_latency_ms:g} ms" if budget.max_latency_ms is not None else "none"
    bound = f"expected at {prediction.expected:.4g} ms, at least {prediction.least:.4g} ms (95 % bound)"
    return f"not measured: {bound}, limit {limit}"


def prefilter_record(trials: Iterable[TrialRecord], budget: Budget) -> PrefilterRecord | None:
    """Summarise what the prefilter did in these trials; None if it predicted nothing."""
    forecasts = [(t.forecast, _latency(t)) for t in without_duplicates(trials) if t.forecast is not None]
    if not forecasts:
        return None
    errors = [abs(f.expected / latency.p50 - 1) for f, latency in forecasts if latency is not None]
    checked = [latency for f, latency in forecasts if f.doubted and latency is not None]
    limit = budget.max_latency_ms or 0.0
    return PrefilterRecord(
        forecasts=len(forecasts),
        skipped=sum(f.doubted and latency is None for f, latency in forecasts),
        checked=len(checked),
        wrong=sum(latency.p50 <= limit for latency in checked),
        error=round(median(errors), 4) if errors else None,
    )


def _latency(trial: TrialRecord) -> Latency | None:
    return trial.costs.latency_ms if trial.costs else None
