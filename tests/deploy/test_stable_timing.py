"""How often a measurement is repeated, and which of its attempts counts."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from nas_kd.latency.baseline import BaselineHistory
from nas_kd.latency.measurement_job import MeasurementJob, RunWorker
from nas_kd.latency.stable_timing import FULL, QUICK, MeasurementBudget, measure_until_stable
from nas_kd.results.latency import Latency
from nas_kd.serialization import write_atomic

JOB = MeasurementJob(
    content=b"net", reference=b"reference", reference_size="small", batch_size=1, input_shape=None, settings={}
)
Run = tuple[float, float, bool]  # p50 as a multiple of the reference's time, the reference's ms, unstable


def worker(runs: Iterable[Run], jobs: list[Mapping[str, Any]]) -> RunWorker:
    """The measuring process, as if it found these timings, one a start; no machine can be disturbed on demand."""
    found = iter(runs)

    def run(_worker: str, job: Mapping[str, Any], _files: bytes, _activity: str) -> Any:
        jobs.append(job)
        p50, reference_ms, unstable = next(found)
        timing = dict.fromkeys(("p50", "p90", "p99", "high"), p50) | {"low": p50 * (0.95 if unstable else 0.99)}
        counts = {"raw_p50_ms": 1.0, "blocks": 20, "calls": 100, "disturbed": 0.0, "seconds": 0.4}
        facts = {"pinned_to": "1", "steal": 0.0, "load_1m": 0.5}
        return timing | counts | facts | {"reference_ms": reference_ms, "unstable": unstable}

    return run


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """The history of a machine whose reference takes 0.1 ms."""
    path = tmp_path / "reference.json"
    write_atomic(path, "[0.1, 0.1, 0.1, 0.16, 0.1]")
    return path


def measured(history: Path, runs: list[Run], budget: MeasurementBudget = FULL) -> Latency:
    return measure_until_stable(JOB, budget, worker(runs, []), BaselineHistory(history))


def outcome(latency: Latency) -> tuple[int | None, bool, float]:
    """Attempts, whether it is stable, and the median as a multiple of the reference's time."""
    assert latency.baseline_ms is not None
    return latency.attempts, not latency.unstable, pytest.approx(latency.p50 / latency.baseline_ms)


def test_one_attempt_is_enough_on_an_undisturbed_machine(history: Path) -> None:
    jobs: list[Mapping[str, Any]] = []
    latency = measure_until_stable(JOB, FULL, worker([(2.0, 0.101, False)], jobs), BaselineHistory(history))
    assert outcome(latency) == (1, True, 2)
    assert latency.baseline_ms == pytest.approx(0.1)
    assert latency.speed == pytest.approx(0.1 / 0.101)
    assert [job["baseline_ms"] for job in jobs] == [pytest.approx(0.1)]


def test_all_that_the_process_answered_is_in_the_latency(history: Path) -> None:
    assert measured(history, [(2.0, 0.1, False)]) == Latency(
        p50=2.0 * 0.1,
        p90=2.0 * 0.1,
        p99=2.0 * 0.1,
        low=2.0 * 0.99 * 0.1,
        high=2.0 * 0.1,
        unstable=False,
        baseline_ms=0.1,
        reference_ms=0.1,
        reference_size="small",
        raw_p50_ms=1.0,
        blocks=20,
        calls=100,
        disturbed=0.0,
        seconds=0.4,
        attempts=1,
        pinned_to="1",
        steal=0.0,
        load_1m=0.5,
    )


def test_it_is_repeated_until_the_machine_is_undisturbed(history: Path) -> None:
    runs = [(2.9, 0.16, True), (2.7, 0.105, True), (2.0, 0.1, False)]
    assert outcome(measured(history, runs)) == (3, True, 2)


def test_neighbours_are_paused_before_it_is_repeated(history: Path) -> None:
    pauses: list[int] = []
    jobs: list[Mapping[str, Any]] = []

    def measure(runs: list[Run]) -> None:
        measure_until_stable(JOB, FULL, worker(runs, jobs), BaselineHistory(history), lambda: pauses.append(len(jobs)))

    measure([(2.0, 0.1, False)])
    assert pauses == []
    measure([(2.9, 0.16, True), (2.0, 0.1, False)])
    assert pauses == [2]
    write_atomic(history, str([0.1] * 30 + [0.16] * 9))
    measure([(2.9, 0.16, True)])
    assert pauses == [2, 3]  # before the only attempt


def test_if_no_attempt_is_stable_the_best_one_counts(history: Path) -> None:
    runs = [(2.9, 0.16, True), (2.2, 0.105, True), (2.8, 0.15, True)]
    assert outcome(measured(history, runs)) == (3, False, 2.2)


def test_quick_measurements_are_repeated_only_while_the_machine_is_disturbed(history: Path) -> None:
    jobs: list[Mapping[str, Any]] = []
    runs = worker([(2.9, 0.16, True), (2.0, 0.1, True), (2.0, 0.1, False)], jobs)
    latency = measure_until_stable(JOB, QUICK, runs, BaselineHistory(history))
    assert outcome(latency) == (2, False, 2)
    assert [job["seconds"] for job in jobs] == [QUICK.seconds] * 2


def test_it_is_not_repeated_beside_a_neighbour_that_stays(history: Path) -> None:
    write_atomic(history, str([0.1] * 30 + [0.16] * 9))
    assert outcome(measured(history, [(2.9, 0.16, True)])) == (1, False, 2.9)
    assert outcome(measured(history, [(2.0, 0.1, False)])) == (1, True, 2)
    # The neighbour rested a moment ago, so that repeating may be of use again.
    assert measured(history, [(2.9, 0.16, True)] * 3).attempts == 3


def test_the_first_time_the_reference_is_measured_by_itself(tmp_path: Path) -> None:
    jobs: list[Mapping[str, Any]] = []
    runs = [(1.0, ms, False) for ms in (0.16, 0.1, 0.16, 0.1, 0.16)] + [(3.0, 0.1, False)]
    latency = measure_until_stable(JOB, FULL, worker(runs, jobs), BaselineHistory(tmp_path / "new.json"))
    assert outcome(latency) == (1, True, 3)
    assert latency.baseline_ms == pytest.approx(0.1)
    assert [job["baseline_ms"] for job in jobs] == [None] * 5 + [pytest.approx(0.1)]


def test_a_machine_that_is_faster_than_its_history(tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    write_atomic(path, "[0.16, 0.16, 0.16, 0.16, 0.16]")  # a neighbour stayed for all of the first measurements
    latency = measured(path, [(2.0, 0.1, False)])
    assert outcome(latency) == (1, True, 2)
    assert latency.baseline_ms == pytest.approx(0.1)
