"""How long a search is likely to take: what its plan asks for, times what single steps take here. A rough range."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import inf, log2
from statistics import fmean

import optuna
import torch
from optuna.samplers import RandomSampler

from nas_kd.commands.step_timing import StepTimes, measure_step_times, uses_cache
from nas_kd.config.options import SearchConfig
from nas_kd.context.run_context import Context
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.kd.chain import Chain
from nas_kd.kd.controls import controls_of
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.methods.combine import make_method
from nas_kd.nas.cost_model import CostModel
from nas_kd.nas.propose import FINE_LADDER, N_INITIAL_TRIALS, Proposer
from nas_kd.nas.samplers import optuna_silenced
from nas_kd.nas.supernet.once_for_all import DRAWN, DRAWN_A_STEP, EPOCHS, LADDER, MEASURED, POPULATION, SHARE
from nas_kd.results.candidate import Architecture, Candidate
from nas_kd.results.limits import within_budget
from nas_kd.results.records import Costs

DRAWN_CANDIDATES = 100  # of a search's proposals, to see what they are like
MARGIN = (0.8, 1.5)  # steps are timed for seconds, a search runs for hours, and not alone

Span = tuple[float, float]  # least and most seconds


@dataclass(frozen=True)
class TimeEstimate:
    """Seconds on the clock, from `low_s` to `high_s`; `parts`: the same before margins, for each part of a run.

    Low: of what is proposed only as much fits the budget as at random, and few are on the front; high: all of it fits.
    """

    low_s: float
    high_s: float
    parts: Mapping[str, Span]
    step_s: float  # of the typical student, without distillation
    rungs: tuple[int, ...]  # epochs


def estimate_time(
    context: Context,
    builder: NetworkBuilder,
    teachers: Sequence[Teacher],
    measured: Mapping[Architecture, Costs],
    gate_s: float,
) -> TimeEstimate:
    """The time that a search with this config will take on this machine.

    Args:
        context: of the run; its store is used.
        builder: of its networks.
        teachers: trained or not.
        measured: costs of a sample, of which one at least is within the budget.
        gate_s: seconds to export and measure one network.

    Raises:
        InputError: a method is not usable.
        TrialError: no training runs.
    """
    context.callback.on_stage("timing training steps")
    fitting = sorted((a for a, c in measured.items() if within_budget(c, context.config.budget)), key=builder.macs)
    typical, largest = fitting[len(fitting) // 2], context.space.size_ladder(2)[-1]
    with _threads(context):
        speed = measure_step_times(context, builder, teachers, typical, largest)
    plan = SearchCostModel(context, builder, speed, gate_s, teachers[0].parameters)
    parts = plan.parts(measured, [t.macs for t in teachers])
    low, high = (sum(span[end] for span in parts.values()) * MARGIN[end] for end in (0, 1))
    step_s = speed.step(builder.macs(typical), "none")
    return TimeEstimate(low, high, parts, step_s, context.rungs)


def epochs_of(candidates: int, rungs: Sequence[int], reduction: int, n_initial: int = 0) -> tuple[int, int]:
    """Epochs that so many candidates are trained for altogether, and how many reach the last rung.

    `pioneers`: so many of them are trained to the end whatever they reach.
    """
    n_initial = min(n_initial, candidates)
    there = candidates - n_initial
    total = n_initial * rungs[-1] + there * rungs[0]
    for before, after in pairwise(rungs):
        there = min(there, max(1, there // reduction))
        total += there * (after - before)
    return total, n_initial + there


@contextmanager
def _threads(context: Context) -> Iterator[None]:
    """As many threads as a candidate's training has: one where there are several workers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if context.config.search.workers > 1 else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class SearchCostModel:
    """What a run has to do, in seconds."""

    def __init__(
        self, context: Context, builder: NetworkBuilder, speed: StepTimes, gate_s: float, largest: int
    ) -> None:
        self._context, self._config, self._builder = context, context.config, builder
        self._speed, self._gate_s = speed, gate_s
        self._chain = Chain(context, builder)
        self._proposer = Proposer(context.config, context.space, builder, largest)
        self._steps = max(1, len(context.data.train) // context.config.distill.batch_size)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._at_once = min(context.config.search.workers, cores)

    def parts(self, measured: Mapping[Architecture, Costs], teachers_macs: Sequence[int]) -> dict[str, Span]:
        """Least and most seconds of each part of the run."""
        model = CostModel(self._builder, self._config.budget)
        model.fit(measured)
        drawn, trials = self._drawn(), _trials(self._config)
        fitting = [c for c in drawn if model.log_excess(c.student) <= 0] or drawn[:1]
        elastic = self._config.search.strategy == "once-for-all"  # all that it proposes fits
        few = trials if elastic else max(1, round(trials * len(fitting) / len(drawn)))
        before = {"teacher": self._teachers(teachers_macs), "outputs": self._outputs()}
        if elastic:
            before["once_for_all"] = self._elastic(fitting, self._left(before))
        return {
            **before,
            **self._search(fitting, drawn, (few, trials), self._left(before)),
            "finalists": self._finalists(fitting, few, trials),
        }

    def _left(self, before: Mapping[str, Span]) -> Span:
        """Seconds until the config says that nothing more is proposed, after all this."""
        if (most := self._config.search.max_minutes) is None:
            return inf, inf
        low, high = (max(0.0, most * 60 - sum(span[end] for span in before.values())) for end in (0, 1))
        return low, high

    def _drawn(self) -> list[Candidate]:
        """Candidates as the search would propose them at random, each once."""
        found: dict[str, Candidate] = {}
        with optuna_silenced():
            study = optuna.create_study(sampler=RandomSampler(seed=self._context.seed))
            for _ in range(min(DRAWN_CANDIDATES, self._config.search.trials)):
                candidate = self._proposer.candidate(study.ask())
                found.setdefault(candidate.id, candidate)
        return list(found.values())

    def _training(self, macs: float, method: str, epochs: float) -> float:
        return epochs * self._steps * self._speed.step(macs, method)

    def _teachers(self, macs: Sequence[int]) -> Span:
        """Those that the tool trains itself; this is done before there are workers."""
        options = zip(self._config.teacher, macs, strict=True)
        own = [(t.epochs or self._config.distill.epochs, m) for t, m in options if t.onnx is None and t.factory is None]
        seconds = sum(self._training(m, "none", epochs) for epochs, m in own) + self._gate_s * len(macs)
        return seconds, seconds

    def _outputs(self) -> Span:
        """Each worker has a share of the epochs."""
        epochs = 1 if self._context.teacher_augmenter.identity else self._config.distill.epochs
        seconds = -(-epochs // self._at_once) * self._speed.outputs_s if uses_cache(self._config) else 0.0
        return seconds, seconds

    def _elastic(self, fitting: Sequence[Candidate], left: Span) -> Span:
        """Its training, however long; a sample that is measured; judging, while there is time."""
        options, builder = self._config.search.once_for_all, self._builder
        epochs = options.epochs or EPOCHS * self._config.distill.epochs
        ends = [float(builder.macs(a)) for a in self._context.space.size_ladder(2)]
        middle = fmean(builder.macs(c.student) for c in fitting)
        trained = sum(self._training(macs, "none", epochs) for macs in [*ends, *[middle] * DRAWN_A_STEP])
        judged = options.evaluations * self._speed.judge_s / self._at_once
        measured = (-(-options.evaluations // POPULATION) * MEASURED + options.members) * self._gate_s
        first = trained + (LADDER + DRAWN) * self._gate_s
        low, high = (max(0.0, SHARE * (seconds - first)) for seconds in left)
        return first + min(judged, low), first + min(judged + measured, high)

    def _search(
        self, fitting: Sequence[Candidate], drawn: Sequence[Candidate], numbers: tuple[int, int], left: Span
    ) -> dict[str, Span]:
        """Gate, assistants and candidates, of which there are so many; cut off where the config says so."""
        few, many = numbers
        spans = {
            "gate": self._gate(few, many),
            "assistants": (self._assistants(fitting[:few]), self._assistants(drawn)),
            "candidates": (self._candidates(fitting, few), self._candidates(fitting, many)),
        }
        shares = [min(1.0, left[end] / max(1e-9, sum(s[end] for s in spans.values()))) for end in (0, 1)]
        return {name: (span[0] * shares[0], span[1] * shares[1]) for name, span in spans.items()}

    def _gate(self, few: int, many: int) -> Span:
        """Candidates, and the ladder up to the budget's edge; an elastic network's members are measured already."""
        if self._config.search.strategy == "once-for-all":
            return 0.0, 0.0
        edge = log2(FINE_LADDER) + N_INITIAL_TRIALS
        return (few + edge) * self._gate_s, (many + edge) * self._gate_s

    def _assistants(self, candidates: Sequence[Candidate]) -> float:
        """Every assistant that these candidates need, trained in full once, and its outputs."""
        nodes = {
            (c.policy, c.assistants[: n + 1])
            for c in candidates
            if c.policy != "residual"
            for n in range(len(c.assistants))
        }
        method, epochs = self._config.chain.method, self._config.distill.epochs
        trained = sum(self._training(self._builder.macs(chain[-1]), method, epochs) for _, chain in nodes)
        return (trained + len(nodes) * (self._speed.begin_s + self._speed.judge_s)) / self._at_once

    def _candidates(self, fitting: Sequence[Candidate], number: int) -> float:
        """So many candidates like these through the rungs."""
        epochs, _ = self._epochs(number)
        step = fmean(self._step(c) for c in fitting)
        earlier = fmean(make_method(c.recipe.method).generations * self._step(c) for c in fitting)
        judged = self._speed.judge_s + fmean(self._file(c) for c in fitting)
        full, begun = self._config.distill.epochs, number * (self._speed.begin_s + judged)
        return (self._steps * (epochs * step + number * full * earlier) + begun) / self._at_once

    def _epochs(self, candidates: int) -> tuple[int, int]:
        search = self._config.search
        n_initial = N_INITIAL_TRIALS if search.strategy == "trials" else 0
        return epochs_of(candidates, self._context.rungs, search.reduction, n_initial)

    def _step(self, candidate: Candidate) -> float:
        deployed = [float(self._builder.macs(a)) for a in candidate.deployed]
        return sum(self._speed.step(macs, candidate.recipe.method, candidate.precision) for macs in deployed)

    def _file(self, candidate: Candidate) -> float:
        return self._speed.file_s.get(candidate.precision, 0.0)

    def _finalists(self, fitting: Sequence[Candidate], few: int, many: int) -> Span:
        """Half of the allowed finalists, or all, over their seeds, with their controls."""
        options, full = self._config.finalists, self._config.distill.epochs
        each = fmean(self._steps * full * self._step(c) for c in fitting)
        controls = 0.0
        if options.controls:
            controls = fmean(
                sum(
                    self._steps * control.epochs * self._step(control.candidate)
                    for control in controls_of(c, self._chain)
                )
                for c in fitting
            )
        judged = 2 * (self._speed.judge_s + fmean(self._file(c) for c in fitting))
        one = options.seeds * (each + controls + judged) / self._at_once + self._gate_s
        low, high = (self._epochs(n)[1] for n in (few, many))
        return one * min(-(-options.max // 2), low), one * min(options.max, high)


def _trials(config: SearchConfig) -> int:
    """Candidates that a search with this config proposes at most."""
    search = config.search
    return min(search.trials, search.once_for_all.members) if search.strategy == "once-for-all" else search.trials
