"""The gate takes the cheapest costs first, and stops where the budget is missed."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from nas_kd.commands.choose_finalists import choose, fallback_finalist
from nas_kd.commands.finalists import FinalistTrainer
from nas_kd.commands.search import search
from nas_kd.config.options import Budget
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.errors import BudgetError, TrialError
from nas_kd.kd.artifacts import ArtifactBuilder
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.latency.device import LocalDevice
from nas_kd.latency.measurement_job import SessionMemory
from nas_kd.latency.reference_net import reference_net
from nas_kd.latency.stable_timing import FULL, QUICK, MeasurementBudget
from nas_kd.models.search_space import load_space
from nas_kd.nas.gate import Gate
from nas_kd.nas.prefilter import MIN_MEASURED
from nas_kd.nas.propose import Proposal
from nas_kd.nas.search_plan import SearchPlan
from nas_kd.nas.trial import check_feasibility, remeasure_borderline
from nas_kd.results.candidate import Architecture
from nas_kd.results.latency import Latency
from nas_kd.results.trial_record import Costs, RungRecord, TrialRecord
from tests import records
from tests.small_runs import BRIEF, Seed, distiller_of, measured_briefly, open_context, plain_candidate, small_config

NETWORK = load_space("resnet").size_ladder(3)[1]


class Gated:
    """The gate of a run with this budget and nothing else, and what passes through it."""

    def __init__(self, folder: Path, rungs: int = 2, **budget: float | None) -> None:
        limits = {"max_latency_ms": None, "max_size_kb": None, **budget}
        config = small_config(budget=limits, search={"rungs": rungs})
        self.context: RunContext = open_context(config, folder)
        self.builder = NetworkBuilder(self.context.data, self.context.space)
        self.gate = Gate(self.context, self.builder)
        self.rungs = SearchPlan.of(config, self.context.steps_per_epoch).rungs
        self._study = optuna.create_study()

    def check(self, student: Architecture, earlier: Sequence[TrialRecord] = ()) -> TrialRecord:
        """What becomes of a candidate at the gate, after these trials."""
        while (trial := self._study.ask()).number < len(earlier):
            pass
        quick, prefilter = len(self.rungs) > 1, bool(earlier)
        proposal, budget = Proposal(trial, plain_candidate(student)), self.context.config.budget
        return check_feasibility(
            proposal, self.gate, self.builder, budget, quick=quick, prefilter=prefilter, earlier=earlier
        )

    def remeasure(self, record: TrialRecord) -> TrialRecord:
        """What becomes of it before its next rung."""
        return remeasure_borderline(record, self.gate, self.context.config.budget, len(self.rungs))


def stored(folder: Path, kind: str) -> bool:
    return any((folder / "store" / kind).rglob("*"))


def test_too_many_multiply_adds_are_neither_exported_nor_measured(tmp_path: Path) -> None:
    gated = Gated(tmp_path, max_macs=10, max_size_kb=1)
    builder = gated.builder
    assert gated.gate.costs(NETWORK) == Costs(parameters=builder.parameters(NETWORK), macs=builder.macs(NETWORK))
    assert not stored(tmp_path, "export")


@pytest.mark.usefixtures("brief_measurements")
def test_what_is_too_large_is_not_measured_unless_all_is_asked_for(tmp_path: Path) -> None:
    gate = Gated(tmp_path, max_size_kb=1).gate
    costs = gate.costs(NETWORK)
    assert costs.size_bytes is not None
    assert costs.latency_ms is None
    assert not stored(tmp_path, "latency")
    whole = gate.all_costs(NETWORK)
    assert whole.latency_ms is not None
    assert whole.model_copy(update={"latency_ms": None}) == costs


@pytest.mark.usefixtures("brief_measurements")
def test_memory_is_measured_where_it_is_limited_and_before_latency(tmp_path: Path) -> None:
    roomy, tight = Gated(tmp_path / "a", max_memory_kb=10**6).gate, Gated(tmp_path / "b", max_memory_kb=1).gate
    costs, too_much = roomy.costs(NETWORK), tight.costs(NETWORK)
    assert costs.memory_bytes is not None
    assert 10_000 < costs.memory_bytes < 10**8
    assert costs.latency_ms is not None
    assert too_much.memory_bytes is not None
    assert too_much.latency_ms is None
    assert roomy.costs(NETWORK) == costs


def test_an_unstable_measurement_is_repeated_with_all_workers_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real measurement; that it was unstable the first time is made up, as no machine is on demand."""
    context = open_context(small_config(search={"workers": 3}), tmp_path)
    measured = context.device.measure(reference_net("small"), 1, None, None, BRIEF)
    stopped: list[int] = []

    @contextmanager
    def pausing(count: int) -> Iterator[None]:
        stopped.append(count)
        yield
        stopped.remove(count)

    def measure(*_: object, pause_neighbours: Callable[[], None], measurement_budget: MeasurementBudget) -> Latency:
        assert stopped == [1]
        pause_neighbours()
        assert stopped == [1, 3]
        return measured

    gate = Gate(context, NetworkBuilder(context.data, context.space), pausing)
    monkeypatch.setattr(LocalDevice, "measure", measure)
    assert gate.all_costs(NETWORK).latency_ms == measured
    assert not stopped


class Machine:
    """Stands for one on which no short run is within 2 %; the figures are made up, as no machine does so on demand."""

    def __init__(self, measured: Latency, patch: pytest.MonkeyPatch, exact: float = 1.02) -> None:
        self.budgets: list[MeasurementBudget] = []
        self.speed = 1.0
        self._measured, self._exact = measured, exact
        patch.setattr(LocalDevice, "measure", self.measure)

    def measure(
        self, *_: object, pause_neighbours: Callable[[], None], measurement_budget: MeasurementBudget
    ) -> Latency:
        self.budgets.append(measurement_budget)
        if measurement_budget == QUICK:
            quick = {"p50": 1.0, "p90": 1.1, "low": 0.94, "high": 1.06, "unstable": True}
            return replace(self._measured, **quick, baseline_ms=1.0, reference_ms=1 / self.speed)
        exact = dict.fromkeys(("p50", "p90", "low", "high"), self._exact)
        return replace(self._measured, **exact, unstable=False, baseline_ms=1.0, reference_ms=1.0)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Latency:
    gated = Gated(tmp_path_factory.mktemp("measured"))
    with measured_briefly():
        assert gated.gate.latency(reference_net("small"), quick=True).p50 > 0
    return gated.context.device.measure(reference_net("small"), 1, None, None, BRIEF)


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
def test_a_short_run_will_do_at_the_gate(
    limit: float, speed: float, status: str, measured: Latency, tmp_path: Path
) -> None:
    gated = Gated(tmp_path, max_latency_ms=limit)
    with pytest.MonkeyPatch.context() as patch:
        machine = Machine(measured, patch)
        machine.speed = speed
        for _ in range(2):  # the second time out of the cache
            record = gated.check(NETWORK)
            assert (record.status, record.median_ms, machine.efforts) == (status, 1.0, [QUICK])
            assert record.reason == (None if status == "running" else f"1 ms > {limit:g} ms")
            assert record.within_budget == (limit >= 1)  # a doubtful one passes, and counts for nothing yet


@pytest.mark.parametrize(
    ("limit", "closest"),
    [(0.5, r"the smallest network of space 'resnet' has .*, 1 ms \(2 times the limit, unstable\)"), (0.7, "trial ")],
)
def test_a_search_is_not_given_up_for_a_latency_that_a_busy_neighbour_may_have_caused(
    limit: float, closest: str, measured: Latency, tmp_path: Path
) -> None:
    config = small_config(budget={"max_latency_ms": limit}, search={"trials": 2}, teacher={"epochs": 1})
    with pytest.MonkeyPatch.context() as patch:
        Machine(measured, patch).speed = 0.7
        with pytest.raises(BudgetError, match=f"no candidate can meet the budget; closest: {closest}"):
            search(config, tmp_path)


def test_without_rungs_the_gate_measures_in_full(measured: Latency, tmp_path: Path) -> None:
    gated = Gated(tmp_path, rungs=1, max_latency_ms=1.0)
    with pytest.MonkeyPatch.context() as patch:
        machine = Machine(measured, patch)
        record = gated.check(NETWORK)
        assert (record.status, record.median_ms, machine.efforts) == ("infeasible", 1.02, [FULL])


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
    limit: float, exact: float, status: str, measured: Latency, tmp_path: Path
) -> None:
    doubtful = limit < 2
    gated = Gated(tmp_path, max_latency_ms=limit)
    with pytest.MonkeyPatch.context() as patch:
        machine = Machine(measured, patch, exact)
        record = gated.check(NETWORK)
        assert gated.remeasure(record) == record
        rung = RungRecord(epochs=gated.rungs[0], val_accuracy=0.5, seconds=1, latency_ms=record.median_ms)
        paused = record.model_copy(update={"status": "paused", "rungs": (rung,)})
        assert machine.efforts == [QUICK]
        known = gated.remeasure(paused)
    assert machine.efforts == [QUICK, *([FULL] if doubtful else [])]
    ms = exact if doubtful else 1.0
    assert (known.status, known.median_ms, known.within_budget) == (status, ms, status == "paused")
    assert known.reason == (None if status == "paused" else f"{exact:g} ms > {limit:g} ms")
    assert known.objectives(0)[2] == 1.0  # as it was compared at that rung


@pytest.mark.parametrize(("exact", "others"), [(0.98, []), (1.02, [1]), (2.1, [1])])
def test_a_finalist_chosen_for_a_quick_latency_is_measured_in_full(
    exact: float, others: list[int], measured: Latency, tmp_path: Path
) -> None:
    """The smaller and more accurate of two is the only one that is chosen, unless it turns out to be the slower one."""
    gated = Gated(tmp_path, max_latency_ms=2.0)
    context = gated.context
    trainer = FinalistTrainer(context, distiller_of(context), ArtifactBuilder.for_run(context), gated.gate)
    with pytest.MonkeyPatch.context() as patch:
        machine = Machine(measured, patch, exact)
        admitted = [gated.check(a) for a in (NETWORK, load_space("resnet").size_ladder(3)[2])]
        trials = [
            record.model_copy(update={"number": number, "status": "finished", "val_accuracy": 0.9 - number / 10})
            for number, record in enumerate(admitted)
        ]
        assert [t.number for t in trainer.choose(trials)] == [0]
        found = list(trainer.measured_front(trials))
        assert [t.number for t in found] == [0, *others]
        known = {t.number: t for t in [*trials, *found]}
        assert [t.number for t in trainer.choose(list(known.values()))] == ([0] if exact < 2 else [])
    assert machine.budgets == [QUICK, QUICK, FULL] + [FULL] * len(others)
    assert [t.median_ms for t in known.values()] == [exact, exact if others else 1.0]


@pytest.mark.usefixtures("brief_measurements")
def test_a_limit_on_what_cannot_be_measured_is_the_trials_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gated(tmp_path, max_memory_kb=10**6).gate
    monkeypatch.setattr(LocalDevice, "memory", lambda *_: SessionMemory(None, None))
    with pytest.raises(TrialError, match="peak memory"):
        gate.costs(NETWORK)


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


def test_trials_that_reach_the_accuracy_become_finalists_first() -> None:
    members = [
        records.trial(n, 0.5 + 0.05 * n, 1000 * (n + 1), 0.1 * (n + 1), within_budget=True) for n in range(8)
    ]  # all on the front
    assert choose(members, 3)[0].number == 7
    chosen = [t.number for t in choose(members, 3, 0.7)]
    assert chosen[:2] == [7, 4]
    assert min(chosen) == 4
    assert {t.number for t in choose(members, 5, 0.7)} >= {4, 5, 6, 7}
    assert choose(members, 3, 0.99) == choose(members, 3)
    assert [t.number for t in choose(members, 1, 0.7)] == [7]


def test_a_fallback_finalist_has_room_for_what_the_refused_ones_grew_by() -> None:
    budget = Budget(max_latency_ms=1.0)
    trials = [
        records.trial(n, accuracy, 1000 * (n + 1), ms, within_budget=True)
        for n, (accuracy, ms) in enumerate([(0.9, 0.98), (0.85, 0.95), (0.8, 0.9), (0.7, 0.5)])
    ]

    def instead(found: dict[int, float]) -> list[int]:
        refused = [(trials[n], records.costs(1000 * (n + 1), ms)) for n, ms in found.items()]
        return [t.number for t in fallback_finalist(refused, [t for t in trials if t.number not in found], budget)]

    assert instead({0: 1.01}) == [1]
    assert instead({0: 1.078}) == [2]  # by a tenth
    assert instead({0: 1.01, 1: 1.045}) == [2]  # the one that grew the most counts
    assert instead({0: 1.5}) == [3]
    assert instead({0: 3.0}) == []


def test_a_run_whose_only_finalist_grew_too_slow_ends_with_another(
    measured: Latency, with_teachers: Seed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real trainings; latencies are made up: by size, but that the first file that was trained is slow."""
    config = small_config(
        budget={"max_latency_ms": 60.0},
        finalists={"max": 1, "seeds": 1, "controls": False},
        search={"rungs": 1, "trials": 4},
    )
    slow_ms, notes = [60.1], list[str]()

    class Watching(Callback):
        training = False

        def on_stage(self, text: str) -> None:
            self.training = self.training or text == "training finalists"

        def on_note(self, text: str) -> None:
            notes.append(text)

    def by_size(_: LocalDevice, onnx: bytes, *options: Any, **more: Any) -> Latency:
        ms = slow_ms.pop() if callback.training and slow_ms else len(onnx) / 1000
        return replace(measured, p50=ms, p90=ms, low=ms, high=ms, unstable=False)

    callback = Watching()
    monkeypatch.setattr(LocalDevice, "measure", by_size)
    run = search(config, with_teachers(tmp_path / "run"), callback)
    assert not slow_ms
    refused, other = run.finalists
    assert [f.within_budget for f in run.finalists] == [False, True]
    assert notes[-1].startswith(f"out of the budget once trained: trial {refused.trial}: ")
    assert notes[-1].endswith(f"60.1 ms (1 times the limit); trial {other.trial} takes the place")
    front = json.loads((tmp_path / "run" / "front.json").read_text())
    assert front["winner"] == other.id
    assert {c["id"] for c in front["candidates"]} == {refused.id, other.id}
