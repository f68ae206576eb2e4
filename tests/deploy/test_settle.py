"""How often a measurement is repeated, and which of its runs counts."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from nas_kd.latency.measurement_job import Ask, MeasurementJob
from nas_kd.latency.stable_timing import FULL, QUICK, measure_until_stable
from nas_kd.serialization import write_atomic

SUBJECT = MeasurementJob(b"net", b"reference", 1, None, {})


def answers(runs: Iterable[tuple[float, float, bool]], jobs: list[Mapping[str, Any]]) -> Ask:
    """The measuring process, as if it found these (p50 in references, the reference's ms, unstable), one a start."""
    found = iter(runs)

    def ask(_worker: str, job: Mapping[str, Any], _files: bytes, _doing: str) -> Any:
        jobs.append(job)
        p50, reference_ms, unstable = next(found)
        timing = dict.fromkeys(("p50", "p90", "p99", "high"), p50) | {"low": p50 * (0.95 if unstable else 0.99)}
        rest = {"raw_p50_ms": 1.0, "blocks": 20, "calls": 100, "disturbed": 0.0, "seconds": 0.4}
        timing |= rest | {"reference_ms": reference_ms, "unstable": unstable}
        return {"timing": timing, "cores": [1], "steal": 0.0}

    return ask


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """A machine whose reference takes 0.1 ms."""
    path = tmp_path / "reference.json"
    write_atomic(path, "[0.1, 0.1, 0.1, 0.16, 0.1]")
    return path


def test_one_run_will_do_on_a_machine_that_is_left_alone(history: Path) -> None:
    jobs: list[Mapping[str, Any]] = []
    remeasure_borderline = measure_until_stable(SUBJECT, FULL, answers([(2.0, 0.101, False)], jobs), history)
    assert (remeasure_borderline.attempts, remeasure_borderline.steady, remeasure_borderline.timing.p50) == (1, True, 2)
    assert remeasure_borderline.baseline_ms == pytest.approx(0.1)
    assert [job["usual_ms"] for job in jobs] == [pytest.approx(0.1)]


def test_it_is_repeated_until_the_neighbour_rests(history: Path) -> None:
    remeasure_borderline = measure_until_stable(
        SUBJECT, FULL, answers([(2.9, 0.16, True), (2.7, 0.105, True), (2.0, 0.1, False)], []), history
    )
    assert (remeasure_borderline.attempts, remeasure_borderline.steady, remeasure_borderline.timing.p50) == (3, True, 2)


def test_whoever_can_be_stopped_is_stopped_before_it_is_repeated(history: Path) -> None:
    stops: list[int] = []
    jobs: list[Mapping[str, Any]] = []

    def quieter() -> None:
        stops.append(len(jobs))

    measure_until_stable(SUBJECT, FULL, answers([(2.0, 0.1, False)], jobs), history, quieter)
    assert stops == []
    measure_until_stable(SUBJECT, FULL, answers([(2.9, 0.16, True), (2.0, 0.1, False)], jobs), history, quieter)
    assert stops == [2]
    write_atomic(history, str([0.1] * 30 + [0.16] * 9))
    measure_until_stable(SUBJECT, FULL, answers([(2.9, 0.16, True)], jobs), history, quieter)
    assert stops == [2, 3]  # the only attempt


def test_what_never_settles_is_told_by_its_best_run(history: Path) -> None:
    remeasure_borderline = measure_until_stable(
        SUBJECT, FULL, answers([(2.9, 0.16, True), (2.2, 0.105, True), (2.8, 0.15, True)], []), history
    )
    assert (remeasure_borderline.attempts, remeasure_borderline.steady, remeasure_borderline.timing.p50) == (
        3,
        False,
        2.2,
    )


def test_rough_runs_are_repeated_only_until_the_machine_is_like_itself(history: Path) -> None:
    jobs: list[Mapping[str, Any]] = []
    remeasure_borderline = measure_until_stable(
        SUBJECT, QUICK, answers([(2.9, 0.16, True), (2.0, 0.1, True), (2.0, 0.1, False)], jobs), history
    )
    assert (remeasure_borderline.attempts, remeasure_borderline.steady, remeasure_borderline.timing.p50) == (
        2,
        False,
        2.0,
    )
    assert [job["seconds"] for job in jobs] == [QUICK.seconds] * 2


def test_nobody_waits_for_a_neighbour_that_stays(history: Path) -> None:
    write_atomic(history, str([0.1] * 30 + [0.16] * 9))
    remeasure_borderline = measure_until_stable(SUBJECT, FULL, answers([(2.9, 0.16, True)], []), history)
    assert (remeasure_borderline.attempts, remeasure_borderline.steady) == (1, False)
    remeasure_borderline = measure_until_stable(SUBJECT, FULL, answers([(2.0, 0.1, False)], []), history)
    assert (remeasure_borderline.attempts, remeasure_borderline.steady) == (1, True)
    remeasure_borderline = measure_until_stable(
        SUBJECT, FULL, answers([(2.9, 0.16, True)] * 3, []), history
    )  # it did rest a moment ago
    assert remeasure_borderline.attempts == 3


def test_the_first_time_the_reference_is_measured_alone(tmp_path: Path) -> None:
    jobs: list[Mapping[str, Any]] = []
    runs = [(1.0, ms, False) for ms in (0.16, 0.1, 0.16, 0.1, 0.16)] + [(3.0, 0.1, False)]
    remeasure_borderline = measure_until_stable(SUBJECT, FULL, answers(runs, jobs), tmp_path / "new.json")
    assert remeasure_borderline.baseline_ms == pytest.approx(0.1)
    assert [job["usual_ms"] for job in jobs] == [None] * 5 + [pytest.approx(0.1)]
    assert (remeasure_borderline.attempts, remeasure_borderline.timing.p50) == (1, 3)


def test_a_machine_that_is_faster_than_it_was_known_to_be(tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    write_atomic(path, "[0.16, 0.16, 0.16, 0.16, 0.16]")  # a neighbour stayed for all of the first measurements
    remeasure_borderline = measure_until_stable(SUBJECT, FULL, answers([(2.0, 0.1, False)], []), path)
    assert remeasure_borderline.baseline_ms == pytest.approx(0.1)
    assert (remeasure_borderline.attempts, remeasure_borderline.steady) == (1, True)
