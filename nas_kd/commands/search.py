"""The search, from a config to a verified winner: read `search` first."""

import time
from collections.abc import Iterable
from contextlib import closing
from math import inf, log
from pathlib import Path

from nas_kd.commands.finalists import FinalistTrainer, TrainedFinalist
from nas_kd.commands.load_run import read_run
from nas_kd.commands.worker import TARGET, JobRunner
from nas_kd.commands.write_winner import write_results
from nas_kd.config.options import Budget, SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import Context, dataset_record
from nas_kd.context.run_folder import RunFolder, locked, write_environment
from nas_kd.engine.numerics import training_threads
from nas_kd.errors import BudgetError, TrialError
from nas_kd.export.verify import accuracy
from nas_kd.kd.artifacts import ArtifactBuilder
from nas_kd.kd.chain_policies.base import load_policy
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.teachers import ReadyTeacher, prepare_teachers
from nas_kd.latency.environment import differences
from nas_kd.nas.feasibility import at_lower_bound, is_borderline, log_excess, require_measured
from nas_kd.nas.gate import Gate
from nas_kd.nas.propose import Proposer
from nas_kd.nas.samplers.base import load_sampler
from nas_kd.nas.search_loop import SearchLoop
from nas_kd.nas.search_plan import ELASTIC, SearchPlan, SupernetPlan
from nas_kd.nas.study import INITIAL_TRIALS, RunStudy
from nas_kd.nas.supernet.once_for_all import OnceForAll
from nas_kd.nas.supernet.supernet_trainer import SupernetTrainer
from nas_kd.nas.worker_pool import WorkerPool
from nas_kd.results.candidate import Architecture
from nas_kd.results.fronts import closest, closest_finalists, winner
from nas_kd.results.hypervolume import IncrementalHypervolume
from nas_kd.results.intervals import wilson_interval
from nas_kd.results.limits import costs_words, within_budget
from nas_kd.results.records import (
    Accuracy,
    CacheRecord,
    DeviceRecord,
    OnceForAllRecord,
    RunRecord,
    TeacherRecord,
    TrialRecord,
)
from nas_kd.store.size_limit import remove_leftovers

# The smallest network is not always quite the fastest: budgets that it misses by less than a quarter are tried.
MAX_LOG_EXCESS = log(1.25)


def search(config: SearchConfig, run_dir: Path, callback: Callback | None = None) -> RunRecord:
    """Search for students within the budget; a folder that holds an unfinished run is resumed.

    Args:
        config: of the run.
        run_dir: where everything is kept.
        callback: receives what happens.

    Raises:
        InputError: config, data, teacher or folder are not usable.
        BudgetError: no candidate can meet the budget, or no finalist does; the run's record says which come closest.
    """
    folder, callback = RunFolder(run_dir), callback or Callback()
    with locked(folder, config) as resumed:
        callback.on_start(str(run_dir), resumed)
        remove_leftovers(folder.store)
        options = config.search
        with closing(
            WorkerPool(options.executor, TARGET, str(folder.path.resolve()), options.workers, callback)
        ) as pool:
            context = Context.prepare(config, folder, callback)
            with training_threads(context.threads), closing(_open(context, pool)) as run:
                if run.is_finished:
                    callback.on_note("this run is finished; to search on, choose another run folder")
                else:
                    run.require_reachable()
                    run.search()
                    finalists = run.train_finalists()
                    run.read_test_once(finalists)
        record = read_run(folder)
        write_results(folder, record)
        callback.on_finish(record, record.finalists)
        _require_winner(record, config.budget)
        return record


def _require_winner(run: RunRecord, budget: Budget) -> None:
    if run.finalists and winner(run.finalists, budget) is None:
        nearest = closest_finalists(run.finalists, budget)
        raise BudgetError(f"no finalist meets the budget (their fronts are in the report); closest: {nearest}")


def _open(context: Context, pool: WorkerPool) -> "Search":
    """Prepare the teacher, then open the study: until it is there, nothing ties the folder to its config."""
    config, folder, callback = context.config, context.folder, context.callback
    _check_plugins(config)
    builder = NetworkBuilder(context.data, context.space)
    gate = Gate(context, builder, pool.reserve)
    callback.on_stage("preparing the teacher" if len(config.teacher) == 1 else "preparing the teachers")
    started = time.monotonic()
    teachers = prepare_teachers(context, gate.of_file)
    distiller = Distiller.for_run(context, builder, [t.teacher for t in teachers])
    smallest = context.space.size_ladder(2)[0]
    distiller.check((*config.distill.methods, config.chain.method), smallest, config.search.precisions)
    study = RunStudy(folder, config.name or folder.path.resolve().name, config.budget, config.distill.epochs)
    if study.teacher is None:
        study.save("teacher", teachers[0].record)
        for place, other in enumerate(teachers[1:], start=1):
            study.save(f"teacher/{place:03d}", other.record)
        study.add_seconds("teacher", time.monotonic() - started)
    device = context.device.describe(context.batch_size)
    if (before := study.load("device", DeviceRecord)) is not None:
        _note_changes(callback, before, device)
    study.save("dataset", dataset_record(context.data))
    study.save("device", device)
    write_environment(folder, dict(device.environment), context.threads)
    return Search(context, study, distiller, gate, teachers=teachers, pool=pool)


def _check_plugins(config: SearchConfig) -> None:
    """Refuse objects of the wrong kind before anything is trained with them.

    Raises:
        InputError: says which, and what it must be.
    """
    load_sampler(config.search.sampler)
    for policy in config.chain.policy:
        load_policy(policy)


def _note_changes(callback: Callback, before: DeviceRecord, now: DeviceRecord) -> None:
    """Note how the device differs from when the run was last worked on; earlier measurements stay as they are."""
    facts = ({"batch_size": record.batch_size, **record.environment} for record in (before, now))
    if changes := differences(*facts):
        callback.on_note(f"the device is not what it was when this run was worked on last: {changes}")


class Search:
    """A search under way: everything loaded, the teachers ready; students are judged by the first."""

    def __init__(
        self,
        context: Context,
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
        self.context, self.study, self.distiller, self.gate, self.pool = context, study, distiller, gate, pool
        self.config, self.callback = context.config, context.callback
        self.teacher, self.others = teachers[0], teachers[1:]
        self.artifacts = ArtifactBuilder.for_run(context)
        self.plan = SearchPlan.of(self.config, context.steps_per_epoch)
        self.proposer = Proposer(self.config, context.space, distiller.builder, self.teacher.teacher.parameters)
        self.hypervolume = IncrementalHypervolume(self.teacher.record, context.data.n_classes)
        pool.work_here(lambda: JobRunner.for_run(context, distiller, self.artifacts))
        self._add_to_hypervolume(study.records)

    def close(self) -> None:
        """Close the study."""
        self.study.close()

    @property
    def is_finished(self) -> bool:
        """Whether the test split was read already."""
        return self.study.state == "finished"

    def require_reachable(self) -> None:
        """End the run early if not even the space's smallest network comes near the budget at any precision.

        Raises:
            BudgetError: says what the smallest network costs.
        """
        smallest, budget = self.context.space.size_ladder(2)[0], self.config.budget
        possible = [self.gate.all_costs(smallest, precision=p, quick=True) for p in self.config.search.precisions]
        for costs in possible:
            require_measured(costs, budget)
        nearest = min(possible, key=lambda c: log_excess(at_lower_bound(c), budget))
        if log_excess(at_lower_bound(nearest), budget) > MAX_LOG_EXCESS:
            description = costs_words(nearest, budget)
            self._give_up(f"the smallest network of space {self.context.space.name!r} has {description}")

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
        """Find what the search begins with: sizes spread over the budget, or an elastic network's best parts."""
        if self.config.search.strategy == ELASTIC:
            self._prepare_elastic_network()
        elif self.study.is_new:
            self.study.save(INITIAL_TRIALS, self.proposer.initial_trials(self._fits, self.plan))

    def _prepare_elastic_network(self) -> None:
        if self.study.load("once_for_all", OnceForAllRecord) is not None:
            return
        plan, context = SupernetPlan.of(self.config), self.context
        trainer = SupernetTrainer(
            self.distiller.trainer, context.space, self.teacher.teacher, plan, context.seed, self.callback
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
            self._give_up("no sub-network that was judged is within the budget")
        self.study.save(INITIAL_TRIALS, self.proposer.direct_trials(m.architecture for m in members))
        self.study.save("once_for_all", record)

    def _fits(self, architecture: Architecture, precision: str) -> bool:
        budget = self.config.budget
        costs = self.gate.costs(architecture, precision=precision, quick=True)
        if is_borderline(costs, budget):  # an initial trial is trained in full: it should not turn out infeasible then
            costs = self.gate.costs(architecture, precision=precision)
        return within_budget(costs, budget)

    def _on_trial_end(self, record: TrialRecord) -> None:
        self._add_to_hypervolume([record])
        self.callback.on_trial_end(record, self.study.records, self.hypervolume.volume)

    def _add_to_hypervolume(self, records: Iterable[TrialRecord]) -> None:
        """Count candidates within the budget that were trained in full, by validation accuracy."""
        for record in records:
            if record.status == "finished":
                self.hypervolume.add(record.val_accuracy, record.costs)

    def train_finalists(self) -> list[TrainedFinalist]:
        """Train the front's members over several seeds, with their controls; one more if no file is within the budget.

        Raises:
            BudgetError: no candidate met the budget.
            TrialError: candidates met it, and none could be trained.
        """
        trainer = self._finalist_trainer()
        self.callback.on_stage("measuring the front")
        with self.study.timed("finalists"):
            for record in trainer.measured_front(self.study.records):
                self.study.correct(record)
        if not (chosen := trainer.choose(self.study.records)):
            self._explain_failures()
            self._give_up(closest(self.study.records, self.config.budget))
        self.study.save("state", "finalists")
        self.callback.on_stage("training finalists")
        with self.study.timed("finalists"):
            trained = self._train(trainer, chosen)
            numbers = {t.number for t in chosen}
            others = [t for t in self.study.records if t.number not in numbers]
            return trained + self._train(trainer, trainer.fallback_finalist(trained, others))

    def _finalist_trainer(self) -> FinalistTrainer:
        supernet = self.study.load("once_for_all", OnceForAllRecord)
        sources = (supernet.key,) if supernet else ()
        distiller = self.distiller.inheriting_from(sources)
        return FinalistTrainer(self.context, distiller, self.artifacts, self.gate)

    def _train(self, trainer: FinalistTrainer, chosen: list[TrialRecord]) -> list[TrainedFinalist]:
        if self.pool.workers > 1:
            self._train_in_workers(trainer, chosen)
        return trainer.train(chosen, silent=self.pool.workers > 1)

    def _train_in_workers(self, trainer: FinalistTrainer, chosen: list[TrialRecord]) -> None:
        """Let all workers train a share; what fails here fails again, and is reported, when it is looked for."""
        jobs, done = trainer.jobs(chosen), 0
        while jobs or self.pool.busy:
            while jobs and self.pool.has_room:
                self.pool.submit(jobs.pop(0))
            self.pool.wait()
            done += 1
            self.callback.on_finalist(done, done + len(jobs) + self.pool.busy, "")

    def read_test_once(self, finalists: list[TrainedFinalist]) -> None:
        """Judge finalists, controls and teachers on the test split; this ends the run.

        Args:
            finalists: trained, with their controls.
        """
        self.callback.on_stage("reading the test split")
        trainer = self._finalist_trainer()
        with self.study.timed("test"):
            for rank, finalist in enumerate(finalists):
                self.study.save(f"finalist/{rank:03d}", trainer.judge(finalist))
            for place, teacher in enumerate([self.teacher, *self.others]):
                self._read_test(teacher, f"teacher/{place:03d}" if place else "teacher")
        self._save_cache_use()
        self.study.save("elapsed_s", f"{self.study.elapsed_s:.3f}")
        self.study.save("state", "finished")

    def _save_cache_use(self) -> None:
        """Store how often the store had what was looked for, in this process and in its workers."""
        hits, misses = self.context.store.hits + self.pool.hits, self.context.store.misses + self.pool.misses
        for kind in sorted({*hits, *misses}):
            self.study.save(f"cache/{kind}", CacheRecord(hits=hits[kind], misses=misses[kind]))

    def _read_test(self, teacher: ReadyTeacher, name: str) -> None:
        test = self.context.for_teacher().data.test
        mean = accuracy(teacher.onnx, test)
        low, high = wilson_interval(mean, len(test))
        tested = Accuracy(mean=mean, low=low, high=high, samples=len(test))
        saved = self.study.load(name, TeacherRecord) or teacher.record
        self.study.save(name, saved.model_copy(update={"test": tested}))

    def _explain_failures(self) -> None:
        """Raise if candidates passed the gate but none could be trained: then the budget is not to blame."""
        failed = [t for t in self.study.records if t.status == "failed"]
        if failed:
            raise TrialError(f"none of {len(failed)} candidates could be trained; the last one: {failed[-1].reason}")

    def _give_up(self, closest_candidates: str) -> None:
        message = f"no candidate can meet the budget; closest: {closest_candidates}"
        self.study.save("state", "unreachable")
        self.study.save("message", message)
        write_results(self.context.folder, read_run(self.context.folder))
        raise BudgetError(message)
