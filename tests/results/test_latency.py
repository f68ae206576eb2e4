"""The latency type: what it computes, and what it reads from JSON of this and of older versions."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_kd.results.latency import Latency
from nas_kd.results.trial_record import Costs, TrialRecord
from tests import records

OLD = {"p50": 0.2, "p90": 0.25, "p99": 0.4, "low": 0.19, "high": 0.21, "unstable": False}  # a file of version 0.1
MEASURED = Latency(
    **OLD,
    baseline_ms=0.1,
    reference_ms=0.125,
    reference_size="small",
    raw_p50_ms=0.3,
    blocks=20,
    calls=100,
    disturbed=0.25,
    seconds=0.5,
    attempts=2,
    pinned_to="3",
    steal=0.0,
    load_1m=1.5,
)


def test_json_of_older_versions_is_read_unchanged() -> None:
    latency = Latency.from_json(OLD)
    assert latency == Latency(p50=0.2, p90=0.25, p99=0.4, low=0.19, high=0.21)
    assert latency.figures() == OLD
    assert (latency.speed, latency.is_undisturbed) == (None, True)
    without_p99 = {name: value for name, value in OLD.items() if name != "p99"}
    assert Latency.from_json(without_p99) == replace(latency, p99=None)


def test_json_keeps_everything() -> None:
    assert Latency.from_json(json.loads(json.dumps(MEASURED.to_json(), allow_nan=False))) == MEASURED
    assert MEASURED.figures() == OLD
    assert MEASURED.basis().keys() == MEASURED.to_json().keys() - OLD.keys() | {"speed"}


@pytest.mark.parametrize(
    ("reference_ms", "undisturbed"), [(0.1, True), (0.11, True), (0.112, False), (0.087, True), (0.086, False)]
)
def test_a_machine_at_another_speed_all_the_time_is_disturbed(reference_ms: float, undisturbed: bool) -> None:
    latency = replace(MEASURED, reference_ms=reference_ms)
    assert latency.speed == pytest.approx(0.1 / reference_ms)
    assert latency.is_undisturbed == undisturbed


@pytest.mark.parametrize(
    "changes",
    [
        {"p50": 0.0},
        {"p50": -1.0},
        {"p50": None},
        {"p50": "0.2"},
        {"p50": True},
        {"p90": math.nan},
        {"high": math.inf},
        {"baseline_ms": 0},
        {"unstable": 0},
        {"unstable": None},
        {"blocks": []},
        {"reference_size": "tiny"},
        {"pinned_to": 3},
        {"usual_ms": 0.1},
    ],
)
def test_what_is_no_latency_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="latency"):
        Latency.from_json(MEASURED.to_json() | changes)


@given(st.none() | st.integers() | st.text() | st.lists(st.integers()) | st.dictionaries(st.text(), st.floats()))
def test_any_other_json_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="latency"):
        Latency.from_json(value)


def test_an_interval_that_begins_below_zero_is_read() -> None:
    assert Latency.from_json(OLD | {"low": -0.1}).low == -0.1  # medians of sessions can vary that widely


def test_records_hold_it_and_read_those_of_older_versions() -> None:
    costs = Costs(parameters=1, macs=2, size_bytes=3, latency_ms=MEASURED)
    assert Costs.model_validate_json(costs.model_dump_json()) == costs
    old = {"parameters": 1, "macs": 2, "size_bytes": 3, "latency_ms": OLD, "memory_bytes": None}
    assert Costs.model_validate(old) == Costs(parameters=1, macs=2, size_bytes=3, latency_ms=Latency.from_json(OLD))
    counted = records.trial(1, None, 1, 1).model_dump(mode="json") | {"costs": {"parameters": 1, "macs": 2}}
    trial = TrialRecord.model_validate(counted)
    assert trial.costs == Costs(parameters=1, macs=2)
    assert trial.median_ms is None


def test_costs_that_are_required_and_not_known_are_an_error() -> None:
    counted = Costs(parameters=1, macs=2)
    with pytest.raises(ValueError, match="not exported"):
        counted.require_size()
    with pytest.raises(ValueError, match=r"latency .* not measured"):
        counted.require_latency()
    assert not counted.unstable
    known = counted.model_copy(update={"size_bytes": 3, "latency_ms": replace(MEASURED, unstable=True)})
    assert (known.require_size(), known.require_latency().p50, known.unstable) == (3, 0.2, True)


def test_it_needs_the_standard_library_only() -> None:
    code = (
        "import sys, nas_kd.results.latency\n"
        "print(*sorted({n.partition('.')[0] for n in sys.modules} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "__main__ nas_kd\n"
