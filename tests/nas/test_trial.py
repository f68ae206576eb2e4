"""A trial at the gate and before its last rung: how exactly it is measured, and what its record says."""

from pathlib import Path

import pytest

from nas_kd.latency.stable_timing import FULL, QUICK
from nas_kd.nas.prefilter import MIN_MEASURED
from nas_kd.results.candidate import Architecture
from nas_kd.results.trial_record import RungRecord, TrialRecord
from tests import records
from tests.nas.gated import NETWORK, Gated, Machine, stored
from tests.small_runs import plain_candidate


@pytest.mark.parametrize(
    ("limit", "speed", "status"),
    [
        (2.0, 1.0, "running"),
        (0.99, 1.0, "running"),  # it may be within the limit: 0.94 to 1.06
        (0.9, 1.0, "infeasible"),
        (0.9, 0.7, "running"),  # and may be much faster than it was beside a busy neighbour
        (0.5, 0.7, "infeasible"),
    ],
)
def test_a_short_run_will_do_at_the_gate(limit: float, speed: float, status: str, tmp_path: Path) -> None:
    gated = Gated(tmp_path, max_latency_ms=limit)
    with pytest.MonkeyPatch.context() as patch:
        machine = Machine(patch)
        machine.speed = speed
        for _ in range(2):  # the second time out of the cache
            record = gated.check(NETWORK)
            assert (record.status, record.median_ms, machine.budgets) == (status, 1.0, [QUICK])
            assert record.reason == (None if status == "running" else f"1 ms > {limit:g} ms")
            assert record.within_budget == (limit >= 1)  # a doubtful one passes, and counts for nothing yet


def test_without_rungs_the_gate_measures_in_full(tmp_path: Path) -> None:
    gated = Gated(tmp_path, rungs=1, max_latency_ms=1.0)
    with pytest.MonkeyPatch.context() as patch:
        machine = Machine(patch)
        record = gated.check(NETWORK)
        assert (record.status, record.median_ms, machine.budgets) == ("infeasible", 1.02, [FULL])


@pytest.mark.parametrize(
    ("limit", "exact", "status"),
    [
        (1.05, 1.02, "paused"),  # 0.94 to 1.06, they say at the gate
        (1.05, 1.1, "infeasible"),
        (0.95, 0.94, "paused"),
        (2.0, 2.1, "paused"),  # in no doubt, and so not measured again
    ],
)
def test_a_borderline_candidate_is_measured_in_full_before_its_last_rung(
    limit: float, exact: float, status: str, tmp_path: Path
) -> None:
    doubtful = limit < 2
    gated = Gated(tmp_path, max_latency_ms=limit)
    with pytest.MonkeyPatch.context() as patch:
        machine = Machine(patch, exact)
        record = gated.check(NETWORK)
        assert gated.remeasure(record) == record
        rung = RungRecord(epochs=gated.rungs[0], val_accuracy=0.5, seconds=1, latency_ms=record.median_ms)
        paused = record.model_copy(update={"status": "paused", "rungs": (rung,)})
        assert machine.budgets == [QUICK]
        known = gated.remeasure(paused)
    assert machine.budgets == [QUICK, *([FULL] if doubtful else [])]
    ms = exact if doubtful else 1.0
    assert (known.status, known.median_ms, known.within_budget) == (status, ms, status == "paused")
    assert known.reason == (None if status == "paused" else f"{exact:g} ms > {limit:g} ms")
    assert known.objectives(0)[2] == 1.0  # as it was compared at that rung


def test_a_skipped_trial_is_rejected_without_a_latency_and_a_large_one_for_its_size(tmp_path: Path) -> None:
    """Real exports; what the prefilter learns from is made up: all are far too slow."""
    gated = Gated(tmp_path, max_latency_ms=0.001, max_size_kb=100)
    ladder = gated.context.space.size_ladder(MIN_MEASURED + 1)
    before = [slow(number, architecture) for number, architecture in enumerate(ladder)]
    small, large = (gated.check(architecture, before) for architecture in (NETWORK, ladder[-1]))
    assert (small.status, large.status) == ("infeasible", "infeasible")
    assert small.reason is not None
    assert small.reason.startswith("not measured: expected at ")
    assert small.costs is not None
    assert small.costs.latency_ms is None
    assert large.reason is not None
    assert "kB > 100 kB" in large.reason
    assert large.forecast is None
    assert not stored(tmp_path, "latency")


def slow(number: int, architecture: Architecture) -> TrialRecord:
    """Measured at 50 ms and a little, doubted, and the first doubted one was checked."""
    costs = records.costs(1000 + number, 50 + 0.01 * number)
    doubted = {"expected": 50.0, "least": 49.0, "doubted": number == 0}
    return records.trial(
        number, None, 1, 1, candidate=plain_candidate(architecture), costs=costs, status="infeasible", forecast=doubted
    )
