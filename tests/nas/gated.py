"""The gate of a run, and what passes through it; where a measurement is beside the point, its figures are made up."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
import pytest

from nas_kd.context.run_context import RunContext
from nas_kd.kd.artifacts import ArtifactBuilder
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.latency.device import LocalDevice
from nas_kd.latency.reference_net import reference_net
from nas_kd.latency.stable_timing import QUICK, MeasurementBudget
from nas_kd.models.search_space import load_space
from nas_kd.nas.gate import Gate
from nas_kd.nas.propose import Proposal
from nas_kd.nas.search_plan import SearchPlan
from nas_kd.nas.trial import check_feasibility, remeasure_borderline
from nas_kd.results.candidate import Architecture
from nas_kd.results.latency import Latency
from nas_kd.results.trial_record import TrialRecord
from tests.small_runs import BRIEF, measured_briefly, open_context, plain_candidate, small_config

NETWORK = load_space("resnet").size_ladder(3)[1]


class Gated:
    """The gate of a run with this budget and nothing else, and what passes through it."""

    def __init__(self, folder: Path, rungs: int = 2, **budget: float | None) -> None:
        limits = {"max_latency_ms": None, "max_size_kb": None, **budget}
        config = small_config(budget=limits, search={"rungs": rungs})
        self.context: RunContext = open_context(config, folder)
        self.builder = NetworkBuilder(self.context.data, self.context.space)
        self.gate = Gate(self.context, self.builder)
        self.rungs = SearchPlan.of(config, self.context.recipe.epochs, self.context.steps_per_epoch).rungs
        self._study = optuna.create_study()

    def exported_size(self, architecture: Architecture) -> int:
        """Bytes of an architecture's file without metadata."""
        files = ArtifactBuilder.for_run(self.context)
        return len(files.untrained_file([self.builder.build(architecture, 0)], "fp32").content)

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


@cache
def measured() -> Latency:
    """A real measurement of a small network."""
    with TemporaryDirectory() as folder:
        gated = Gated(Path(folder))
        with measured_briefly():
            assert gated.gate.latency(reference_net("small"), quick=True).p50 > 0
        return gated.context.device.measure(reference_net("small"), 1, None, None, BRIEF)


class Machine:
    """Stands for one on which no short run is within 2 %; the figures are made up, as no machine does so on demand."""

    def __init__(self, patch: pytest.MonkeyPatch, exact: float = 1.02) -> None:
        self.budgets: list[MeasurementBudget] = []
        self.speed = 1.0
        self._measured, self._exact = measured(), exact
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


def stored(folder: Path, kind: str) -> bool:
    """Whether the store of the run in this folder has anything of this kind."""
    return any((folder / "store" / kind).rglob("*"))
