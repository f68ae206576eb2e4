"""The normalized hypervolume by hand, and its history against computing it from scratch."""

import time
from math import log10

import numpy as np
import pytest

from nas_kd.results.hypervolume import (
    IncrementalHypervolume,
    hypervolume_history,
    measured_objectives,
    normalized_hypervolume,
)
from nas_kd.results.trial_record import RungRecord
from tests.records import costs, elastic_network, run, teacher, trial


def test_hypervolume_by_hand() -> None:
    # The teacher's accuracy, a tenth of the size and of the time.
    assert normalized_hypervolume([(0.9, 100_000, 0.1)], teacher(), 0.1) == pytest.approx(1)
    # Half way from chance to the teacher; a hundredth of the size, half the time.
    assert normalized_hypervolume([(0.5, 10_000, 0.5)], teacher(), 0.1) == pytest.approx(0.5 * 2 * log10(2))
    # More accurate than the teacher: retained accuracy above 1.
    assert normalized_hypervolume([(0.98, 100_000, 0.1)], teacher(), 0.1) == pytest.approx(1.1)


@pytest.mark.parametrize(
    "point", [(0.1, 1, 0.001), (0.0, 1, 0.001), (0.9, 1_000_000, 0.1), (0.9, 1, 1.0), (1.0, 1, 9.0)]
)
def test_no_better_than_chance_or_no_cheaper_than_the_teacher_gives_zero(point: tuple[float, float, float]) -> None:
    assert normalized_hypervolume([point], teacher(), 0.1) == 0
    assert normalized_hypervolume([], teacher(), 0.1) == 0


def test_invalid_reference_teachers_are_rejected() -> None:
    with pytest.raises(ValueError, match="no better than chance"):
        normalized_hypervolume([], teacher(val=0.1), 0.1)
    with pytest.raises(ValueError, match="latency was not measured"):
        normalized_hypervolume([], teacher(latency_ms=None), 0.1)


def test_history_by_hand() -> None:
    trials = (
        trial(3, 0.5, 10_000, 0.5),
        trial(1, None, 10, 0.1, status="infeasible", seconds={"gate": 9.0}),
        trial(2, 0.9, 100_000, 0.1),
        trial(4, 0.3, 100, 0.1, status="pruned"),
        trial(5, 0.4, 20_000, 0.6),
        trial(6, None, 1, 0.1, status="running"),
    )
    volume = normalized_hypervolume([(0.9, 100_000, 0.1), (0.5, 10_000, 0.5)], teacher(), 0.1)
    history = hypervolume_history(run(trials=trials, state="searching"))
    assert [row[:2] for row in history] == [(2, 2), (3, 4), (5, 8)]
    assert [row[2] for row in history] == [pytest.approx(1), pytest.approx(volume), pytest.approx(volume)]


def test_history_with_rungs_by_hand() -> None:
    def rungs(*seconds: float) -> tuple[RungRecord, ...]:
        return tuple(RungRecord(epochs=n, val_accuracy=0.5, seconds=s) for n, s in enumerate(seconds, start=1))

    pruned = {"status": "pruned", "elapsed_s": 99.0, "rungs": rungs(1)}  # when the search ended
    trials = (
        trial(1, 0.9, 100_000, 0.1, elapsed_s=20.0, rungs=rungs(1, 3), seconds={"distill": 8.0, "assistants": 4.0}),
        trial(2, 0.5, 10, 0.1, seconds={"distill": 5.0}, **pruned),
        trial(3, None, 10, 0.1, status="infeasible", elapsed_s=10.0, seconds={"gate": 1.0}),
        trial(4, 0.9, 100_000, 0.1, elapsed_s=12.0, rungs=rungs(1, 1), seconds={"distill": 6.0}),
        trial(5, 0.5, 10, 0.1, seconds={"distill": 7.0}, **pruned),
        trial(6, 0.5, 10, 0.1, status="paused", elapsed_s=30.0, rungs=rungs(1), seconds={"distill": 9.0}),
        trial(7, 0.9, 10, 0.1, status="duplicate", elapsed_s=31.0, rungs=rungs(1), seconds={"distill": 100.0}),
    )
    history = hypervolume_history(run(trials=trials))
    # Before 12 s: 1's assistants and first rung (4 + 2) and 2 (5) by 10 s, when 3 was known; then all of 4.
    assert [row[:2] for row in history] == [(12, 4 + 2 + 5 + 6), (20, 4 + 2 + 5 + 6 + 6)]
    assert [row[2] for row in history] == [pytest.approx(1), pytest.approx(1)]
    later = trial(8, 0.4, 10, 0.1, elapsed_s=40.0, seconds={"distill": 1.0})
    last = hypervolume_history(run(trials=(*trials, later)))[-1]
    assert last[:2] == (40, 23 + 7 + 9 + 1)


def test_once_for_all_training_counts_before_the_first_candidate() -> None:
    elastic = elastic_network(training_s=50.0)
    assert hypervolume_history(run(trials=(trial(3, 0.9, 100, 0.1),), once_for_all=elastic))[0][:2] == (3, 52)


def test_history_without_a_reference_or_objectives() -> None:
    assert hypervolume_history(run()) == []
    assert hypervolume_history(run(teacher=None, trials=(trial(1, 0.5, 10, 0.1),))) == []
    assert hypervolume_history(run(dataset=None, trials=(trial(1, 0.5, 10, 0.1),))) == []
    assert hypervolume_history(run(teacher=teacher(val=0.05), trials=(trial(1, 0.5, 10, 0.1),))) == []
    unknown = (trial(1, 0.5, 10, None), trial(2, float("nan"), 10, 0.1))
    assert hypervolume_history(run(trials=unknown)) == [(1, 2, 0), (2, 4, 0)]


def test_history_of_five_thousand_trials_is_quick_and_right() -> None:
    rng = np.random.default_rng(0)
    sizes = 10 ** rng.uniform(3, 6, 5000)
    latencies = (sizes / 1e6) ** 0.7 * 10 ** rng.normal(0, 0.15, 5000)
    accuracies = np.clip(0.3 + 0.2 * (np.log10(sizes) - 3) + rng.normal(0, 0.004, 5000), 0, 1)
    rows = zip(accuracies.tolist(), sizes.astype(int).tolist(), latencies.tolist(), strict=True)
    trials = tuple(trial(n, a, s, ms) for n, (a, s, ms) in enumerate(rows))
    record = run(trials=trials)
    start = time.process_time()
    history = hypervolume_history(record)
    assert time.process_time() - start < 3  # 0.3 s on an idle machine
    volumes = [row[2] for row in history]
    assert volumes == sorted(volumes)
    for n in (0, 10, 500, 4999):
        points = measured_objectives((t.val_accuracy, t.costs) for t in trials[: n + 1])
        assert volumes[n] == pytest.approx(normalized_hypervolume(points, teacher(), 0.1))


def test_a_teacher_that_is_no_better_than_chance_leaves_the_volume_at_zero() -> None:
    """Such a teacher may be used where few samples cannot tell; gains over it are not defined."""
    for reference in (teacher(val=0.1), teacher(latency_ms=None)):
        growing = IncrementalHypervolume(reference, 0.1)
        growing.add(0.9, costs(1000, 0.1))
        assert growing.volume == 0.0
