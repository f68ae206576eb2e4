"""The steps of a search, in the order in which `search` calls them; their results are in the study and the store."""

import time
from bisect import bisect_left
from collections.abc import Iterable
from math import inf, log

from nas_kd.commands.baseline_step import compress_teacher
from nas_kd.commands.failed_search import give_up
from nas_kd.commands.finalist_step import FinalistStep
from nas_kd.commands.judge import Judge, read_test
from nas_kd.commands.schedule_length import with_affordable_schedule
from nas_kd.commands.trained_files import MeasuredBaseline, TrainedFinalist
from nas_kd.commands.worker import JobRunner
from nas_kd.context.run_context import RunContext
from nas_kd.errors import TrialError
from nas_kd.kd.artifacts import ArtifactBuilder
from nas_kd.kd.choose_recipe import (
    ProbeBudget,
    choose_recipe,
    describe_choice,
    probe_method,
    student_recipe_key,
)
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import N_SIZES
from nas_kd.kd.ready_teacher import ReadyTeacher
from nas_kd.nas.feasibility import at_lower_bound, is_borderline, log_excess, require_measured
from nas_kd.nas.gate import Gate
from nas_kd.nas.propose import Proposer
from nas_kd.nas.recipe_dimensions import RecipeDimensions
from nas_kd.nas.search_loop import SearchLoop
from nas_kd.nas.search_plan import (
    ELASTIC,
    MAX_INITIAL_SIZE_RATIO,
    SearchPlan,
    SupernetPlan,
    probe_epochs,
    probe_minutes,
)
from nas_kd.nas.study import INITIAL_TRIALS, RunStudy
from nas_kd.nas.supernet.once_for_all import OnceForAll
from nas_kd.nas.supernet.supernet_trainer import SupernetTrainer
from nas_kd.nas.worker_pool import WorkerPool
from nas_kd.results.candidate import Architecture
from nas_kd.results.finalist_record import FinalistPlan
from nas_kd.results.hypervolume import IncrementalHypervolume, is_valid_reference
from nas_kd.results.limits import describe_costs, within_budget
from nas_kd.results.recipe_record import RecipeRecord, SmallStudentsRecord
from nas_kd.results.run_record import CacheRecord, OnceForAllRecord
from nas_kd.results.trial_record import TrialRecord

# The smallest network is not always quite the fastest: budgets that it misses by less than a quarter are tried.
MAX_LOG_EXCESS = log(1.25)
# How far down from the budget's edge to the smallest useful size, in logarithms, the network is that recipes are tried
# on: small networks lose by augmentation what large ones gain, and the best student is near the edge.
MIDDLE = 1 / 3


class Search:
    """A search under way: everything loaded, the teachers ready; students are judged by the first."""

    def __init__(
        self,
        context: RunContext,
        study: RunStudy,
        distiller: Distiller,
        gate: Gate,
        *,
        teachers: list[ReadyTeacher],
        pool: WorkerPool,
    ) -> None:
        """Search with these parts.

        Args:
            context: config, data, device and folder of the run.
            study: its record.
            distiller: trains candidates.
            gate: measures costs.
            teachers: checked and recorded.
            pool: its workers.
        """
        self.study, self.gate, self.pool = study, gate, pool
        self.config, self.callback = context.config, context.callback
        self.teacher, self.others = teachers[0], teachers[1:]
        self.artifacts = ArtifactBuilder.for_run(context)
        self._train_by(context, distiller)
        self.hypervolume = IncrementalHypervolume(self.teacher.record, context.metric.chance)
        pool.work_here(lambda: JobRunner.for_run(self.context, self.distiller, self.artifacts))
        self._add_to_hypervolume(study.records)

    def _train_by(self, context: RunContext, distiller: Distiller, small: SmallStudentsRecord | None = None) -> None:
        """Use this context's recipe for all trainings from now on, but for small students where theirs is another."""
        self.context, self.distiller = context, distiller
        self.plan = SearchPlan.of(self.config, context.recipe.epochs, context.steps_per_epoch)
        weights, recipes = self.teacher.teaching.weights_limit, RecipeDimensions.of(context, small)
        self.proposer = Proposer(self.config, context.space, distiller.builder, weights, recipes)

    def close(self) -> None:
        """Close the study and its database."""
        self.study.close()

    @property
    def is_finished(self) -> bool:
        """Whether the test split was read already."""
        return self.study.state == "finished"

    def require_reachable(self) -> None:
        """End the run early if not even the space's smallest network comes near the budget at any precision.

        Raises:
            BudgetError: says what the smallest network costs.
            TrialError: no network of the space can be exported.
        """
        self.callback.on_stage("measuring the smallest network")
        smallest, budget = self._smallest_exported(), self.config.budget
        possible = [self.gate.all_costs(smallest, precision=p, quick=True) for p in self.config.search.precisions]
        for costs in possible:
            require_measured(costs, budget)
        nearest = min(possible, key=lambda c: log_excess(at_lower_bound(c), budget))
        if log_excess(at_lower_bound(nearest), budget) > MAX_LOG_EXCESS:
            description = describe_costs(nearest, budget)
            give_up(
                self.context, self.study, f"the smallest network of space {self.context.space.name!r} has {description}"
            )

    def _smallest_exported(self) -> Architecture:
        """The smallest of the space's sizes that can be built and exported at every precision."""
        builder, failure = self.distiller.builder, TrialError()
        sizes = dict.fromkeys([builder.smallest(), *builder.size_ladder(N_SIZES)])
        for size in sizes:
            try:
                for precision in self.config.search.precisions:
                    self.gate.check_export(size, precision)
                return size
            except TrialError as error:
                failure = error
        raise TrialError(
            f"space {self.context.space.name!r}: none of its {len(sizes)} sizes can be built and exported; the last "
            f"one: {failure}"
        ) from failure

    def choose_recipe(self) -> None:
        """Fit what of the training recipe is "auto" to the data, by short trainings of a network within the budget."""
        context, builder = self.context, self.distiller.builder
        teachers = [ready.teaching for ready in (self.teacher, *self.others)]
        key = student_recipe_key(context, teachers)
        record = self.study.load("recipe", RecipeRecord)
        if record is not None:
            context.store.save_json("recipe", key, record.model_dump(mode="json"))  # where workers look for it
        else:
            with self.study.timed("recipe"):
                context = with_affordable_schedule(
                    context,
                    builder,
                    teachers,
                    network=self._middle_of_the_budget,
                    left_s=self.study.left_s(self.config.search.max_minutes),
                    workers=self.pool.workers,
                )
                self._train_by(context, Distiller.for_run(context, builder, teachers))
                record = choose_recipe(
                    context,
                    builder,
                    teachers,
                    key=key,
                    network=self._middle_of_the_budget,
                    method=probe_method(self.config.distill.methods),
                    budget=self._probe_budget(),
                    small=None if "augment" in self.config.search.recipe else self._smallest_useful,
                )
            self.study.save("recipe", record)
            self.callback.on_note(f"training recipe: {describe_choice(record)}")
        context = context.with_recipe(record.recipe)
        self._train_by(context, Distiller.for_run(context, builder, teachers), record.small)

    def _middle_of_the_budget(self) -> Architecture:
        """A network of the middle sizes that are within the budget and useful."""
        return self._below_the_edge(MIDDLE)

    def _smallest_useful(self) -> Architecture:
        """A network as small as the search begins with."""
        return self._below_the_edge(1.0)

    def _below_the_edge(self, share: float) -> Architecture:
        """A network so far on the way, in logarithms, from the budget's edge down to the smallest useful size."""
        builder, precision = self.distiller.builder, self.config.search.precisions[0]
        path = builder.size_ladder(self.plan.n_edge_sizes or 2)
        edge = max(0, bisect_left(path, True, key=lambda a: not self._fits(a, precision)) - 1)
        sizes = [a for a in path[: edge + 1] if builder.can_build(a)] or [builder.smallest()]
        wanted = log(builder.parameters(sizes[-1])) - share * log(MAX_INITIAL_SIZE_RATIO)
        return min(sizes, key=lambda a: abs(log(builder.parameters(a)) - wanted))

    def _probe_budget(self) -> ProbeBudget:
        """A share of the epochs that the plan asks for, finalists included, and of the time that the run may take."""
        minutes = probe_minutes(self.config)
        until = None if minutes is None else time.monotonic() + 60 * minutes
        limited = self.config.distill.probe_minutes is not None
        return ProbeBudget(inf if limited else probe_epochs(self.plan, self.pool.workers), until)

    def search(self) -> None:
        """Propose, gate, distill, judge, until there are enough candidates."""
        if self.study.state != "searching":
            return
        methods = self.config.distill.methods
        outputs = self.distiller.trainer.outputs
        self.pool.precompute_outputs(outputs.cached_epochs(methods, self.plan.rungs[-1]))
        self._prepare_initial_trials()
        loop = SearchLoop(
            self.study,
            self.distiller.builder,
            self.gate,
            self.proposer,
            config=self.config,
            plan=self.plan,
            pool=self.pool,
            callback=self.callback,
            on_trial_end=self._on_trial_end,
        )
        left = self.study.left_s(self.config.search.max_minutes)
        self.callback.on_search_start(loop.trials, None if left == inf else left)
        started = time.monotonic()
        loop.run()
        self.study.add_seconds("idle", self.pool.idle_s(started))

    def _prepare_initial_trials(self) -> None:
        """Find what the search begins with: sizes from the budget's edge down, or an elastic network's best parts."""
        if self.config.search.strategy == ELASTIC:
            self._prepare_elastic_network()
        elif self.study.is_new:
            self.callback.on_stage("measuring what fits the budget")
            self.study.save(INITIAL_TRIALS, self.proposer.initial_trials(self._fits, self.plan))

    def _prepare_elastic_network(self) -> None:
        if self.study.load("once_for_all", OnceForAllRecord) is not None:
            return
        plan, context = SupernetPlan.of(self.config, self.context.recipe.epochs), self.context
        trainer = SupernetTrainer(
            self.distiller.trainer,
            self.teacher.teaching,
            plan,
            seed=context.seed,
            callback=self.callback,
        )
        with self.study.timed("once_for_all"):
            once_for_all = OnceForAll(
                context.space,
                self.distiller.builder,
                self.gate,
                self.pool,
                trainer,
                plan=plan,
                budget=self.config.budget,
                precision=self.config.search.precisions[0],
                seed=context.seed,
                callback=self.callback,
            )
            until = time.monotonic() + self.study.left_s(self.config.search.max_minutes)
            members, record = once_for_all.search(until)
        if not members:
            give_up(self.context, self.study, "no sub-network that was judged is within the budget")
        self.study.save(INITIAL_TRIALS, self.proposer.direct_trials(m.architecture for m in members))
        self.study.save("once_for_all", record)

    def _fits(self, architecture: Architecture, precision: str) -> bool:
        budget = self.config.budget
        try:
            costs = self.gate.costs(architecture, precision=precision, quick=True)
            if is_borderline(costs, budget):  # an initial trial is trained in full: it should not be infeasible then
                costs = self.gate.costs(architecture, precision=precision)
        except TrialError:  # it cannot be built or exported
            return False
        return within_budget(costs, budget)

    def _on_trial_end(self, record: TrialRecord) -> None:
        self._add_to_hypervolume([record])
        self.callback.on_trial_end(record, self.study.records, self.hypervolume.volume)

    def _add_to_hypervolume(self, records: Iterable[TrialRecord]) -> None:
        """Count candidates within the budget that were trained in full, by their score on validation.

        Against a teacher of unknown size and latency nothing can be counted.
        """
        if not is_valid_reference(self.teacher.record, self.context.metric.chance):
            return
        for record in records:
            if record.status == "finished":
                self.hypervolume.add(record.val_score, record.costs)

    def train_finalists(self) -> list[TrainedFinalist]:
        """Train the front's members over several seeds, with their controls; see `FinalistStep.train`."""
        return self._finalist_step().train()

    def _finalist_step(self) -> FinalistStep:
        return FinalistStep(
            self.context,
            self.study,
            self.distiller,
            self.artifacts,
            self.gate,
            [self.teacher, *self.others],
            self.pool,
        )

    def compress_teacher(self) -> list[MeasuredBaseline]:
        """Compress the teacher in other ways, to compare finalists with; see `compress_teacher`."""
        plan = self.study.load("finalist_plan", FinalistPlan)
        with self.study.timed("baselines"):
            return compress_teacher(self.context, self.teacher, self.gate, plan.seeds if plan else 1)

    def read_test_once(self, finalists: list[TrainedFinalist], baselines: list[MeasuredBaseline]) -> None:
        """Judge finalists, controls, baselines and teachers on the test split; this ends the run.

        Args:
            finalists: trained, with their controls.
            baselines: the teacher, compressed in other ways.
        """
        self.callback.on_stage("reading the test split")
        judge = Judge(self.context, self.distiller.builder, self.gate)
        with self.study.timed("test"):
            read_test(self.study, judge, finalists, baselines, [self.teacher, *self.others])
        self._save_cache_use()
        self.study.save("elapsed_s", f"{self.study.elapsed_s:.3f}")
        self.study.save("state", "finished")

    def _save_cache_use(self) -> None:
        """Store how often the store had what was looked for, in this process and in its workers."""
        hits, misses = self.context.store.hits + self.pool.hits, self.context.store.misses + self.pool.misses
        for kind in sorted({*hits, *misses}):
            self.study.save(f"cache/{kind}", CacheRecord(hits=hits[kind], misses=misses[kind]))
