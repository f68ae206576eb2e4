"""Which trials become finalists, how they are measured, and what takes the place of those that grew too slow."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas_kd.commands.choose_finalists import choose, fallback_finalist
from nas_kd.commands.finalists import FinalistTrainer
from nas_kd.commands.search import search
from nas_kd.commands.trained_files import TrainedFile, TrainedFinalist
from nas_kd.config.options import Budget
from nas_kd.context.callbacks import Callback, StopRun
from nas_kd.kd.artifacts import ArtifactBuilder, ExportedFile
from nas_kd.latency.device import LocalDevice
from nas_kd.latency.stable_timing import FULL, QUICK
from nas_kd.models.search_space import load_space
from nas_kd.report.content import build_content
from nas_kd.results.latency import Latency
from tests import records
from tests.nas.gated import NETWORK, Gated, Machine, measured
from tests.small_runs import Seed, distiller_of, small_config


@pytest.mark.parametrize(("exact", "others"), [(0.98, []), (1.02, [1]), (2.1, [1])])
def test_a_finalist_chosen_for_a_quick_latency_is_measured_in_full(
    exact: float, others: list[int], tmp_path: Path
) -> None:
    """The smaller and more accurate of two is the only one that is chosen, unless it turns out to be the slower one."""
    gated = Gated(tmp_path, max_latency_ms=2.0)
    context = gated.context
    trainer = FinalistTrainer(context, distiller_of(context), ArtifactBuilder.for_run(context), gated.gate)
    with pytest.MonkeyPatch.context() as patch:
        machine = Machine(patch, exact)
        admitted = [gated.check(a) for a in (NETWORK, load_space("resnet").size_ladder(3)[2])]
        trials = [
            record.model_copy(update={"number": number, "status": "finished", "val_score": 0.9 - number / 10})
            for number, record in enumerate(admitted)
        ]
        assert [t.number for t in trainer.choose(trials)] == [0]
        found = list(trainer.measured_front(trials))
        assert [t.number for t in found] == [0, *others]
        known = {t.number: t for t in [*trials, *found]}
        assert [t.number for t in trainer.choose(list(known.values()))] == ([0] if exact < 2 else [])
    assert machine.budgets == [QUICK, QUICK, FULL] + [FULL] * len(others)
    assert [t.median_ms for t in known.values()] == [exact, exact if others else 1.0]


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


@pytest.mark.parametrize(
    ("refused", "other", "wanted"),
    [
        ((), 0.95, []),
        ((0,), 0.95, [2]),  # the best one is too slow, and this one is as good as any
        ((0,), 0.7, []),  # the search found it less accurate than one that can be deployed
        ((1,), 0.95, []),  # the best one can be deployed
        ((0, 1), 0.7, [2]),  # nothing else can be
    ],
)
def test_the_best_finalist_is_replaced_if_it_is_over_the_budget(
    refused: tuple[int, ...], other: float, wanted: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated = Gated(tmp_path, max_latency_ms=1.0)
    context = gated.context
    trainer = FinalistTrainer(context, distiller_of(context), ArtifactBuilder.for_run(context), gated.gate)
    shown = enumerate([(0.9, 0.9), (0.8, 0.9), (other, 0.5)])  # accuracy, ms
    trials = [records.trial(n, accuracy, 4000, ms, within_budget=True) for n, (accuracy, ms) in shown]
    latencies = {str(n).encode(): 1.01 if n in refused else 0.9 for n in range(2)}
    monkeypatch.setattr(gated.gate, "of_file", lambda onnx, _: records.costs(4000, latencies[onnx]))
    monkeypatch.setattr(trainer._distiller.builder, "counted", lambda _: None)

    def trained(number: int) -> TrainedFinalist:
        accuracy = trials[number].val_accuracy or 0.0
        file = ExportedFile(str(number).encode(), "", accuracy, accuracy, 0.0, 1.0, 1.0, "")
        return TrainedFinalist(trials[number], (TrainedFile(0, 1, file),), ())

    chosen = trainer.fallback_finalist([trained(0), trained(1)], trials[2:])
    assert [t.number for t in chosen] == wanted


class Killed(Callback):
    """Keeps the notes, and stops the run once its first finalist is trained."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_note(self, text: str) -> None:
        self.notes.append(text)

    def on_finalist(self, done: int, total: int, description: str) -> None:
        raise StopRun(f"after {done} of {total}, {description}")


def test_finalists_are_as_many_as_their_share_of_the_training_allows(
    with_latencies: Seed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was planned before the first finalist was trained is kept when the run goes on."""
    config = small_config(
        distill={"methods": ["soft_targets"]},
        finalists={"max": 4, "seeds": 3, "max_share": 0.01},
        search={"rungs": 1, "trials": 4},
    )
    folder, killed = with_latencies(tmp_path / "run"), Killed()
    with pytest.raises(StopRun, match="after 1 of 4"):  # two seeds of a finalist and of its control
        search(config, folder, killed)
    (note,) = [text for text in killed.notes if "finalists.max_share" in text]
    assert "2 of 3 seeds" in note
    assert note.endswith("finalists.max_share = 1 trains all")
    monkeypatch.setattr(FinalistTrainer, "plan", None)  # is not planned again
    run = search(config, folder)
    plan = run.finalist_plan
    assert plan is not None
    assert (plan.finalists, plan.controlled, plan.seeds, plan.control_epochs) == (1, 1, 2, 4)
    assert plan.share > 0.01
    (finalist,) = run.finalists
    assert [s.seed for s in finalist.seeds] == [1, 2]
    assert [[s.epochs for s in c.seeds] for c in finalist.controls] == [[4, 4]]
    (fact,) = [f.text for f in build_content(run).methodology.facts if f.name == "Finalists"]
    assert "finalists.max_share allows 1" in fact
    assert "2 of 3 seeds" in fact


def test_a_run_whose_only_finalist_grew_too_slow_ends_with_another(
    with_teachers: Seed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real trainings; latencies are made up: by size, but that the first file that was trained is slow."""
    config = small_config(
        budget={"max_latency_ms": 60.0},
        finalists={"max": 1, "seeds": 1, "controls": False},
        search={"rungs": 1, "trials": 4},
    )
    slow_ms, notes, real = [60.1], list[str](), measured()

    class Watching(Callback):
        training = False

        def on_stage(self, text: str) -> None:
            self.training = self.training or text == "training finalists"

        def on_note(self, text: str) -> None:
            notes.append(text)

    def by_size(_: LocalDevice, onnx: bytes, *options: Any, **more: Any) -> Latency:
        ms = slow_ms.pop() if callback.training and slow_ms else len(onnx) / 1000
        return replace(real, p50=ms, p90=ms, low=ms, high=ms, unstable=False)

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
