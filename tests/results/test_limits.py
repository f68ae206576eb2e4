"""The table of limits: which costs exceed them, which are not known, and how both are described."""

from math import log
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_kd.config.options import Budget
from nas_kd.errors import TrialError
from nas_kd.nas.feasibility import at_lower_bound, infeasible_reason, log_excess, require_measured, violation
from nas_kd.results.latency import Latency
from nas_kd.results.limits import (
    LIMITS,
    active_limits,
    cost_values,
    describe_costs,
    describe_exceeded,
    ratios,
    unmeasured_limits,
    within_budget,
    worst_log_ratio,
)
from nas_kd.results.trial_record import Costs, Forecast
from tests.records import trial

ALL = Budget(max_latency_ms=0.5, max_size_kb=100, max_memory_kb=2000, max_macs=1e6)


def costs(macs: int = 10**6, size: int = 100_000, memory: int | None = 2_000_000, ms: float | None = 0.5) -> Costs:
    latency = Latency(p50=ms, p90=ms, low=ms, high=ms) if ms is not None else None
    return Costs(size_bytes=size, latency_ms=latency, memory_bytes=memory, parameters=1, macs=macs)


def test_every_limit_is_an_option_of_the_budget_and_the_cheapest_to_measure_comes_first() -> None:
    assert [limit.name for limit in LIMITS] == ["macs", "size", "memory", "latency"]
    options = set(Budget.model_fields)
    assert {limit.option for limit in LIMITS} | {"min_accuracy", "min_score"} == options
    assert {limit.key: maximum for limit, maximum in active_limits(ALL)} == {
        "max_macs": 1e6,
        "max_size_bytes": 100_000,
        "max_memory_bytes": 2_000_000,
        "max_latency_ms": 0.5,
    }
    assert active_limits(Budget(min_accuracy=0.9)) == ()


@pytest.mark.parametrize(
    ("changes", "ratio", "description"),
    [
        ({}, 1.0, ""),
        ({"macs": 1_500_000}, 1.5, "1,500,000 multiply-adds > 1,000,000 multiply-adds"),
        ({"size": 120_000}, 1.2, "120.0 kB > 100 kB"),
        ({"memory": 5_000_000}, 2.5, "5000.0 kB of memory > 2,000 kB of memory"),
        ({"ms": 0.6}, 1.2, "0.6 ms > 0.5 ms"),
        ({"ms": 0.6, "size": 400_000}, 4.0, "400.0 kB > 100 kB and 0.6 ms > 0.5 ms"),
    ],
)
def test_excess_and_reason_of_each(changes: dict[str, Any], ratio: float, description: str) -> None:
    known = costs(**changes)
    assert log_excess(known, ALL) == pytest.approx(log(ratio))
    assert infeasible_reason(known, ALL) == description
    assert within_budget(known, ALL) == (description == "")


def test_a_limited_cost_that_is_not_known_is_never_within_the_budget_and_fails_the_trial() -> None:
    assert not describe_exceeded(costs(memory=None), ALL)
    assert not within_budget(costs(memory=None), ALL)
    with pytest.raises(TrialError, match=r"not measured: its peak memory \(budget.max_memory_kb\)"):
        require_measured(costs(memory=None), ALL)
    with pytest.raises(TrialError, match=r"peak memory .* and its latency"):
        require_measured(costs(memory=None, ms=None), ALL)
    require_measured(costs(), ALL)
    require_measured(costs(memory=None), Budget(max_latency_ms=1))


def test_a_network_that_was_only_counted_has_no_other_costs() -> None:
    counted = Costs(parameters=1, macs=3_000_000)
    assert cost_values(counted) == {"macs": 3_000_000, "size": None, "memory": None, "latency": None}
    assert ratios(cost_values(counted), ALL) == {"macs": 3.0}
    assert [limit.name for limit in unmeasured_limits(counted, ALL)] == ["size", "memory", "latency"]
    assert describe_costs(counted, Budget(max_macs=1e6)) == (
        "3,000,000 multiply-adds (3 times the limit), size not measured, latency not measured"
    )


def test_an_unstable_latency_is_marked_and_may_stand_for_less() -> None:
    measured, budget = costs(ms=2.0), Budget(max_latency_ms=1.6)
    unstable = Latency(p50=2.0, p90=3.0, low=1.5, high=2.6, unstable=True)
    doubtful = measured.model_copy(update={"latency_ms": unstable})
    assert describe_costs(measured, budget).endswith(", 2 ms (1.25 times the limit)")
    assert describe_costs(doubtful, budget).endswith(", 2 ms (1.25 times the limit, unstable)")
    assert at_lower_bound(measured) == measured
    assert log_excess(at_lower_bound(doubtful), budget) == pytest.approx(log(1.5 / 1.6))
    assert log_excess(doubtful, budget) == pytest.approx(log(1.25))


def test_limits_of_next_to_nothing_are_limits() -> None:
    assert Budget(max_size_kb=1e-9).max_size_bytes == 1
    assert log_excess(costs(), Budget(max_size_kb=1e-9)) == pytest.approx(log(100_000))
    assert worst_log_ratio({"latency": 0.0}, Budget(max_latency_ms=1)) < -100


@given(
    st.builds(costs, st.integers(1, 10**8), st.integers(1, 10**6), st.integers(1, 10**7), st.floats(1e-3, 10)),
    st.builds(Budget, max_macs=st.none() | st.floats(1, 1e8), max_size_kb=st.none() | st.floats(0.1, 1000)),
)
def test_reason_and_excess_agree(known: Costs, budget: Budget) -> None:
    assert bool(describe_exceeded(known, budget)) == (log_excess(known, budget) > 0 or not within_budget(known, budget))
    assert (log_excess(known, budget) > 0) <= bool(infeasible_reason(known, budget))


def test_the_violation_of_a_skipped_trial_is_that_of_its_lower_bound() -> None:
    skipped = trial(
        1, None, 50_000, None, status="infeasible", forecast=Forecast(expected=2.0, least=1.5, doubted=True)
    )
    budget = Budget(max_latency_ms=0.5, max_size_kb=100)
    assert violation(skipped, budget) == pytest.approx(log(3))
    too_large = trial(1, None, 200_000, None, status="infeasible")
    assert violation(too_large, budget) == pytest.approx(log(2))
    assert violation(trial(1, 0.9, 50_000, 0.25), budget) == pytest.approx(log(0.5))
    assert violation(trial(1, None, 1, 1, status="failed", costs=None), budget) == -1
