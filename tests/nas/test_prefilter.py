"""The prefilter: what it skips is slow, what passes is measured, and a resumed run decides alike."""

from math import exp, log
from typing import Any

import numpy as np
import pytest

from nas_kd.config.options import Budget
from nas_kd.data.prepare import load_dataset
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.models.search_space import load_space
from nas_kd.nas.feasibility import violation
from nas_kd.nas.prefilter import CHECK_EVERY, MIN_MEASURED, describe_skip, forecast, is_skipped, prefilter_record
from nas_kd.nas.supernet.architecture_sampler import ArchitectureSampler
from nas_kd.report.content import build_content
from nas_kd.report.trial_flow import build_trial_flow
from nas_kd.results.candidate import Architecture, Candidate, Recipe
from nas_kd.results.latency import Latency
from nas_kd.results.trial_record import Costs, TrialRecord
from tests import records
from tests.small_runs import small_config

LIMIT_MS = 1.0
BUDGET = Budget(max_latency_ms=LIMIT_MS)


@pytest.fixture(scope="module")
def builder() -> NetworkBuilder:
    return NetworkBuilder(load_dataset(small_config().data, 0), load_space("resnet"))


@pytest.fixture(scope="module")
def candidates() -> list[Candidate]:
    draws = ArchitectureSampler(load_space("resnet"), 1)
    found = dict.fromkeys(draws.architecture(draws.random()) for _ in range(150))
    return [Candidate(a, (), Recipe("none")) for a in found]


def latency_ms(architecture: Architecture, builder: NetworkBuilder, noise: float = 0.05) -> float:
    """A power of the multiply-adds, and what no model knows of the network."""
    rng = np.random.default_rng(builder.macs(architecture) + builder.parameters(architecture))
    return exp(0.7 * log(builder.macs(architecture) / 100_000) + noise * float(rng.normal()))


def admitted(candidate: Candidate, number: int, before: list[TrialRecord], builder: NetworkBuilder) -> TrialRecord:
    """As `check_feasibility`, with a made-up latency in place of a measurement."""
    made = forecast(candidate, number, before, builder, BUDGET)
    ms = latency_ms(candidate.student, builder)
    skipped = is_skipped(made, number, before)
    counted = {"parameters": builder.parameters(candidate.student), "macs": builder.macs(candidate.student)}
    timed = None if skipped else Latency(p50=ms, p90=ms, low=ms, high=ms)
    costs = Costs(size_bytes=4 * counted["parameters"], latency_ms=timed, **counted)
    fields: dict[str, Any] = {"status": "infeasible" if skipped or ms > LIMIT_MS else "finished", "forecast": made}
    return records.trial(number, None, 1, 1, id=candidate.id, candidate=candidate, costs=costs, **fields)


@pytest.fixture(scope="module")
def trials(candidates: list[Candidate], builder: NetworkBuilder) -> list[TrialRecord]:
    done: list[TrialRecord] = []
    for number, candidate in enumerate(candidates):
        done.append(admitted(candidate, number, done, builder))
    return done


def skipped(trial: TrialRecord) -> bool:
    return trial.costs is not None and trial.costs.latency_ms is None


def test_it_skips_many_slow_ones_and_hardly_any_that_is_within(
    trials: list[TrialRecord], builder: NetworkBuilder
) -> None:
    left_out = [t.candidate.student for t in trials if skipped(t)]
    slow = [t for t in trials[MIN_MEASURED:] if latency_ms(t.candidate.student, builder) > LIMIT_MS]
    assert len(left_out) > len(slow) / 2
    within = [a for a in left_out if latency_ms(a, builder) <= LIMIT_MS]
    assert len(within) <= 0.05 * len(trials)
    assert all(t.status == "infeasible" and violation(t, BUDGET) > 0 for t in trials if skipped(t))


def test_it_waits_until_it_has_seen_enough(trials: list[TrialRecord]) -> None:
    assert all(t.forecast is None for t in trials[:MIN_MEASURED])
    assert all(t.forecast is not None for t in trials[MIN_MEASURED:])


def test_the_first_and_then_every_tenth_that_it_doubts_is_measured(trials: list[TrialRecord]) -> None:
    doubted = [t for t in trials if t.forecast is not None and t.forecast.doubted]
    assert len(doubted) > 2 * CHECK_EVERY
    assert [skipped(t) for t in doubted] == [place % CHECK_EVERY != 0 for place in range(len(doubted))]
    assert not any(skipped(t) for t in trials if t not in doubted)


def test_the_order_of_records_and_later_ones_change_nothing(
    trials: list[TrialRecord], candidates: list[Candidate], builder: NetworkBuilder
) -> None:
    number = 60
    again = admitted(candidates[number], number, trials[::-1], builder)
    assert again == trials[number]
    lost = [t for t in trials[: number + 5] if t.number not in (number, number + 2)]  # killed while two were trained
    for again_number in (number, number + 2):
        lost.append(admitted(candidates[again_number], again_number, lost, builder))
        assert lost[-1] == trials[again_number]


def test_others_teach_it_nothing(
    trials: list[TrialRecord], candidates: list[Candidate], builder: NetworkBuilder
) -> None:
    one = candidates[60]
    twins = [t.model_copy(update={"candidate": trials[0].candidate}) for t in trials]
    assert forecast(one, 60, twins, builder, BUDGET) is None  # one network, however often
    unmeasured = [t for t in trials if skipped(t)]
    assert forecast(one, 150, unmeasured * 30, builder, BUDGET) is None
    summed = Candidate(one.student, (candidates[1].student,), Recipe("none"), policy="residual")
    assert forecast(summed, 60, trials, builder, BUDGET) is None
    assert forecast(one, 60, trials, builder, Budget(max_size_kb=1)) is None


def test_its_record_counts_what_it_did(trials: list[TrialRecord]) -> None:
    made = prefilter_record(trials, BUDGET)
    assert made is not None
    assert made.forecasts == len(trials) - MIN_MEASURED
    assert made.skipped == sum(map(skipped, trials))
    doubted = sum(t.forecast is not None and t.forecast.doubted for t in trials)
    assert made.checked == doubted - made.skipped
    assert made.wrong == 0
    assert made.error is not None
    assert 0 < made.error < 0.3
    generous = prefilter_record(trials, Budget(max_latency_ms=1e6))
    assert generous is not None
    assert generous.wrong == generous.checked > 0
    assert prefilter_record(trials[:MIN_MEASURED], BUDGET) is None
    assert prefilter_record([t.model_copy(update={"status": "duplicate"}) for t in trials], BUDGET) is None


def test_the_reason_names_prediction_bound_and_limit(trials: list[TrialRecord]) -> None:
    made = next(t.forecast for t in trials if skipped(t))
    assert made is not None
    description = describe_skip(made, BUDGET)
    assert description.startswith(f"not measured: expected at {made.expected:.4g} ms, at least {made.least:.4g} ms")
    assert description.endswith("limit 1 ms")


def test_the_report_tells_of_it(trials: list[TrialRecord]) -> None:
    made = prefilter_record(trials, BUDGET)
    run = records.run(trials=tuple(trials), prefilter=made)
    assert made is not None
    steps = {step.name: step.count for step in build_trial_flow(run)}
    assert steps["Infeasible, not measured"] == made.skipped
    assert steps["Infeasible at the gate"] == sum(t.status == "infeasible" for t in trials) - made.skipped
    (fact,) = [f for f in build_content(run).methodology.facts if f.name == "Prefilter"]
    assert f"{made.skipped} candidates infeasible without a measurement" in fact.text
