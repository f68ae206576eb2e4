"""Estimates how long a search takes: what its plan asks for, times what single steps take here; a range."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import inf
from statistics import fmean

import optuna
import torch
from optuna.samplers import RandomSampler

from nas_kd.commands.finalist_plan import FinalistCost, plan_finalists
from nas_kd.commands.schedule_length import with_planned_schedule
from nas_kd.commands.step_timing import StepTimes, measure_step_times, uses_cache
from nas_kd.commands.training_costs import (
    student_cost,
    student_friendly_cost,
    supernet_cost,
    teachers_cost,
    trained_teachers,
)
from nas_kd.context.run_context import RunContext
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.kd.chain_policies.base import load_policy
from nas_kd.kd.choose_recipe import free_fields, probe_method
from nas_kd.kd.controls import controls_of
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.training_work import TrainingWork
from nas_kd.methods.combine import make_method
from nas_kd.nas.cost_model import CostModel
from nas_kd.nas.propose import Proposer
from nas_kd.nas.samplers.base import optuna_silenced
from nas_kd.nas.search_plan import ELASTIC, SearchPlan, SupernetPlan, probe_epochs, probe_minutes
from nas_kd.nas.supernet.student_friendly_plan import StudentFriendlyPlan
from nas_kd.results.candidate import Architecture, Candidate, Recipe
from nas_kd.results.limits import within_budget
from nas_kd.results.trial_record import Costs

N_DRAWN = 100  # proposals, to see what they are like
MARGIN = (0.8, 1.5)  # steps are timed for seconds, a search runs for hours, and not alone

Span = tuple[float, float]  # least and most seconds


@dataclass(frozen=True)
class TimeEstimate:
    """Wall-clock seconds of a search.

    Attributes:
        low_s: if only the share of random candidates that fits the budget is trained, and few are on the front.
        high_s: if every candidate fits.
        parts: both, before margins, for each part of the run.
        step_s: one training step of a typical student, without distillation.
        rungs: epochs of each.
    """

    low_s: float
    high_s: float
    parts: Mapping[str, Span]
    step_s: float
    rungs: tuple[int, ...]


def estimate_time(
    context: RunContext,
    builder: NetworkBuilder,
    teachers: Sequence[Teacher],
    measured: Mapping[Architecture, Costs],
    gate_s: float,
) -> TimeEstimate:
    """Estimate the time that a search with this config takes on this machine.

    Args:
        context: of the run; its store is used.
        builder: of its networks.
        teachers: trained or not.
        measured: costs of a sample of networks, at least one of which is within the budget.
        gate_s: seconds to export and measure one network.

    Raises:
        InputError: a method is not usable.
        TrialError: no training runs.
    """
    context.callback.on_stage("timing training steps")
    fitting = sorted((a for a, c in measured.items() if within_budget(c, context.config.budget)), key=builder.macs)
    typical, largest = fitting[len(fitting) // 2], builder.largest()
    with _threads(context):
        times = measure_step_times(context, builder, teachers, typical, largest)
    context = with_planned_schedule(context, builder, times, typical)
    plan = SearchCostModel(context, builder, times, gate_s, teachers[0].weights_limit)
    parts = plan.parts(measured, [t.macs for t in teachers])
    low, high = (sum(span[end] for span in parts.values()) * MARGIN[end] for end in (0, 1))
    step_s = times.step(builder.macs(typical), "none")
    return TimeEstimate(
        low, high, parts, step_s, SearchPlan.of(context.config, context.recipe.epochs, context.steps_per_epoch).rungs
    )


@contextmanager
def _threads(context: RunContext) -> Iterator[None]:
    """Use as many threads as a candidate's training has: one where there are several workers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if context.config.search.workers > 1 else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class SearchCostModel:
    """Adds up what a run has to do, in seconds: its plans, times what single steps take here."""

    def __init__(
        self, context: RunContext, builder: NetworkBuilder, times: StepTimes, gate_s: float, max_weights: int
    ) -> None:
        """Estimate runs of this config.

        Args:
            context: of the run.
            builder: counts multiply-adds.
            times: of single steps, here.
            gate_s: seconds to export and measure one network.
            max_weights: the teacher's number of weights.
        """
        self._context, self._config, self._builder = context, context.config, builder
        self._times, self._gate_s = times, gate_s
        self._proposer = Proposer(context.config, context.space, builder, max_weights)
        self._steps = context.steps_per_epoch
        self._work = TrainingWork(builder, context.recipe.batch_size)
        self._plan = SearchPlan.of(context.config, context.recipe.epochs, self._steps)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._at_once = min(context.config.search.workers, cores)

    def parts(self, measured: Mapping[Architecture, Costs], teachers_macs: Sequence[int]) -> dict[str, Span]:
        """Least and most seconds of each part of the run.

        Args:
            measured: costs of a sample of networks.
            teachers_macs: multiply-adds of each teacher.
        """
        model = CostModel(self._builder, self._config.budget)
        model.fit(measured)
        drawn, trials = self._drawn(), self._plan.trials
        fitting = [c for c in drawn if model.log_excess(c.student) <= 0] or drawn[:1]
        elastic = self._config.search.strategy == ELASTIC  # all that it proposes fits
        few = trials if elastic else max(1, round(trials * len(fitting) / len(drawn)))
        recipe = self._recipe(fitting)
        before = {"teacher": self._teachers(teachers_macs), "recipe": recipe, "outputs": self._outputs()}
        if elastic:
            before["once_for_all"] = self._supernet(fitting, self._left(before))
        return {
            **before,
            **self._search(fitting, drawn, (few, trials), self._left(before)),
            "finalists": self._finalists(fitting, drawn, (few, trials), teachers_macs),
        }

    def _left(self, before: Mapping[str, Span]) -> Span:
        """Seconds until the config's time limit, after all this."""
        if (most := self._config.search.max_minutes) is None:
            return inf, inf
        low, high = (max(0.0, most * 60 - sum(span[end] for span in before.values())) for end in (0, 1))
        return low, high

    def _drawn(self) -> list[Candidate]:
        """Draw candidates as the search would propose them at random, each once."""
        found: dict[str, Candidate] = {}
        with optuna_silenced():
            study = optuna.create_study(sampler=RandomSampler(seed=self._context.seed))
            for _ in range(min(N_DRAWN, self._config.search.trials)):
                candidate, problem = self._proposer.draw(study.ask())
                if problem is None and self._builder.can_build(candidate.student):
                    found.setdefault(candidate.id, candidate)
        return list(found.values()) or self._smallest()

    def _smallest(self) -> list[Candidate]:
        return [Candidate(self._builder.smallest(), (), Recipe(self._config.distill.methods[0]))]

    def _training(self, macs: float, method: str, epochs: float) -> float:
        return epochs * self._steps * self._times.step(macs, method)

    def _teachers(self, macs: Sequence[int]) -> Span:
        """Teachers that the tool trains itself, alone or with cuts of them, which it does before there are workers."""
        own = trained_teachers(zip(self._config.teacher, macs, strict=True), self._context.teacher_epochs)
        low, high = self._student_friendly_s()
        trained = self._context.teacher_epoch * sum(self._training(m, "none", epochs) for epochs, m in own)
        seconds = trained + self._gate_s * len(macs)
        return seconds + low, seconds + high

    @cached_property
    def _student_friendly(self) -> StudentFriendlyPlan | None:
        """The cuts that the teacher is trained together with, if it is."""
        if not self._config.teacher[0].student_friendly_epochs:
            return None
        return StudentFriendlyPlan.of(self._context, self._builder)

    def _student_friendly_s(self) -> Span:
        """A teacher's training together with cuts of itself; at most with students of it before and after."""
        if (plan := self._student_friendly) is None:
            return 0.0, 0.0
        epochs = self._context.teacher_epoch * self._config.teacher[0].student_friendly_epochs
        trained = sum(self._training(macs, "none", epochs) for macs in plan.macs(self._builder))
        method = probe_method(self._config.distill.methods)
        students = [self._training(self._builder.macs(a), method, self._context.recipe.epochs) for a in plan.compared]
        return trained, trained + 2 * sum(students)

    def _recipe(self, fitting: Sequence[Candidate]) -> Span:
        """The recipe probe, which has one process: from two settings compared up to its share of the run."""
        minutes = probe_minutes(self._config)
        if self._config.distill.probe_minutes == 0 or not free_fields(self._context):
            return 0.0, 0.0
        share = self._steps * probe_epochs(self._plan, self._config.search.workers) * fmean(map(self._step, fitting))
        if minutes is None:
            return 0.5 * share, share
        most = 60 * minutes if self._config.distill.probe_minutes else min(share, 60 * minutes)
        return 0.5 * most, most

    def _outputs(self) -> Span:
        """Teachers' outputs: each worker computes a share of the epochs."""
        epochs = 1 if self._context.teacher_augmenter.identity else self._context.recipe.epochs
        seconds = -(-epochs // self._at_once) * self._times.outputs_s if uses_cache(self._config) else 0.0
        return seconds, seconds

    def _supernet(self, fitting: Sequence[Candidate], left: Span) -> Span:
        """The elastic network's training, however long; a measured sample; judging, while there is time."""
        plan, builder = SupernetPlan.of(self._config, self._context.recipe.epochs), self._builder
        ends = [float(builder.macs(a)) for a in builder.ends()]
        middle = fmean(builder.macs(c.student) for c in fitting)
        macs = [*ends, *[middle] * plan.drawn_per_step]
        trained = sum(self._training(m, "none", plan.epochs) for m in macs)
        judged = plan.evaluations * self._times.judge_s / self._at_once
        measured = plan.later_measurements * self._gate_s
        first = trained + plan.initial_measurements * self._gate_s
        low, high = (max(0.0, plan.judging_share * (seconds - first)) for seconds in left)
        return first + min(judged, low), first + min(judged + measured, high)

    def _search(
        self, fitting: Sequence[Candidate], drawn: Sequence[Candidate], numbers: tuple[int, int], left: Span
    ) -> dict[str, Span]:
        """Gate, assistants and candidates, few or many of them; cut off at the config's time limit."""
        few, many = numbers
        gated = 0.0 if self._plan.n_edge_sizes == 0 else self._gate_s  # an elastic network's parts are measured already
        edge = self._plan.edge_measurements
        spans = {
            "gate": ((few + edge) * gated, (many + edge) * gated),
            "assistants": (self._assistants(fitting, few), self._assistants(drawn, many)),
            "candidates": (self._candidates(fitting, few), self._candidates(fitting, many)),
        }
        shares = [min(1.0, left[end] / max(1e-9, sum(s[end] for s in spans.values()))) for end in (0, 1)]
        return {name: (span[0] * shares[0], span[1] * shares[1]) for name, span in spans.items()}

    def _assistants(self, candidates: Sequence[Candidate], number: int) -> float:
        """The assistants that the promoted of this many candidates like these share; each is trained in full once."""
        trained = self._shared_assistants(candidates, number)
        method, epochs = self._config.chain.method, self._context.recipe.epochs
        seconds = sum(self._training(self._builder.macs(a), method, epochs) for a in trained)
        return (seconds + len(trained) * (self._times.begin_s + self._times.judge_s)) / self._at_once

    def _shared_assistants(self, candidates: Sequence[Candidate], number: int) -> list[Architecture]:
        promoted = candidates[: self._plan.promoted(number)]
        chains = {(c.policy, chain) for c in promoted for chain in load_policy(c.policy).reusable_chains(c)}
        return [chain[-1] for _, chain in chains]

    def _candidates(self, fitting: Sequence[Candidate], number: int) -> float:
        """This many candidates like these through the rungs."""
        restarts = self._restarts(fitting, number)
        epochs = self._epochs(fitting, number)
        step = fmean(self._step(c) for c in fitting)
        earlier = fmean(make_method(c.recipe.method).generations * self._step(c) for c in fitting)
        judged = self._times.judge_s + fmean(self._file(c) for c in fitting)
        full, begun = self._context.recipe.epochs, (number + restarts) * self._times.begin_s + number * judged
        return (self._steps * (epochs * step + number * full * earlier) + begun) / self._at_once

    def _epochs(self, fitting: Sequence[Candidate], number: int) -> float:
        """Epochs of all their students; those that start again are trained up to the first rung twice."""
        return self._plan.epochs(number)[0] + self._restarts(fitting, number) * self._plan.rungs[0]

    def _restarts(self, fitting: Sequence[Candidate], number: int) -> float:
        """How many of this many candidates like these start again when they are promoted."""
        promoted = self._plan.promoted(number) - min(self._plan.n_initial, number)
        return promoted * fmean(map(self._starts_again, fitting))

    def _starts_again(self, candidate: Candidate) -> bool:
        """Whether its training up to the first rung is one without its assistants."""
        several = len(self._plan.rungs) > 1
        return several and load_policy(candidate.policy).without_shared_assistants(candidate) != candidate

    def _step(self, candidate: Candidate) -> float:
        networks = load_policy(candidate.policy).deployed(candidate)
        method, precision = candidate.recipe.method, candidate.precision
        return sum(self._times.step(float(self._builder.macs(a)), method, precision) for a in networks)

    def _file(self, candidate: Candidate) -> float:
        return self._times.file_s.get(candidate.precision, 0.0)

    def _finalists(
        self,
        fitting: Sequence[Candidate],
        drawn: Sequence[Candidate],
        numbers: tuple[int, int],
        teachers_macs: Sequence[int],
    ) -> Span:
        """Half of the allowed finalists, or all, with their controls, within their share of the run's training."""
        options, ends = self._config.finalists, (fitting, drawn)
        low, high = (
            self._finalists_s(fitting, min(most, self._plan.epochs(n)[1]), self._cost(fitting, end, n, teachers_macs))
            for most, end, n in zip((-(-options.max // 2), options.max), ends, numbers, strict=True)
        )
        return low, high

    def _cost(
        self, fitting: Sequence[Candidate], drawn: Sequence[Candidate], number: int, teachers_macs: Sequence[int]
    ) -> float:
        """Multiply-adds per training sample of all training before the finalists."""
        work, full = self._work, self._context.recipe.epochs
        epochs = round(self._epochs(fitting, number))
        students = fmean(student_cost(c, work, epochs, full) for c in fitting)
        assistants = full * sum(map(work.macs, self._shared_assistants(drawn, number)))
        teachers = zip(self._config.teacher, map(work.of_macs, teachers_macs), strict=True)
        trained = teachers_cost(teachers, self._context.teacher_epochs)
        if (tuned := self._student_friendly) is not None:
            networks, epochs = tuned.macs(self._builder), self._config.teacher[0].student_friendly_epochs
            compared = [float(self._builder.macs(a)) for a in tuned.compared]
            trained += student_friendly_cost(epochs, networks, full, compared, work)
        cost = students + assistants + self._context.teacher_epoch * trained
        if self._config.search.strategy == ELASTIC:
            plan = SupernetPlan.of(self._config, self._context.recipe.epochs)
            ends = self._builder.ends()
            cost += supernet_cost(plan.epochs, plan.networks_per_step, ends, [c.student for c in fitting], work)
        return cost

    def _finalists_s(self, fitting: Sequence[Candidate], number: int, cost_before: float) -> float:
        """Seconds of at most this many finalists like these, and of their controls."""
        options, full = self._config.finalists, self._context.recipe.epochs
        each = [FinalistCost.of(c, options, self._work, full) for c in fitting]
        if (minutes := self._config.search.max_minutes) is not None:
            steps = self._steps * full
            each = [cost.timed(steps * self._step(c)) for cost, c in zip(each, fitting, strict=True)]
            cost_before = 60 * minutes * self._at_once
        like_these = [each[round(i * (len(each) - 1) / max(1, number - 1))] for i in range(number)]
        plan = plan_finalists(like_these, cost_before, options, full)
        own = fmean(self._steps * full * self._step(c) for c in fitting)
        controls = fmean(self._controls(c, plan.control_epochs / full) for c in fitting) if plan.controlled else 0.0
        judged = 2 * (self._times.judge_s + fmean(self._file(c) for c in fitting))
        trained = plan.finalists * (own + judged) + plan.controlled * controls
        return plan.seeds * trained / self._at_once + plan.finalists * self._gate_s

    def _controls(self, candidate: Candidate, longest: float) -> float:
        options = self._config.finalists.model_copy(update={"max_control_epochs": longest})
        controls = controls_of(candidate, self._builder, self._context.recipe.epochs, options)
        return sum(self._steps * control.epochs * self._step(control.candidate) for control in controls)
