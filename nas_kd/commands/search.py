"""The search, from a config to a verified winner: read `search` first."""

import time
from collections.abc import Iterable
from contextlib import closing
from math import inf, log
from pathlib import Path
from typing import Any

from nas_kd.commands.finalists import FinalistTrainer, TrainedFinalist
from nas_kd.commands.load_run import read_run
from nas_kd.commands.worker_pool import WorkerPool, WorkerProcesses
from nas_kd.commands.write_winner import write_results
from nas_kd.config.options import Budget, SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import Context, dataset_record
from nas_kd.context.run_folder import RunFolder, locked, write_environment
from nas_kd.engine.numerics import training_threads
from nas_kd.errors import BudgetError, TrialError
from nas_kd.export.verify import accuracy
from nas_kd.kd.chain import Chain
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.teachers import ReadyTeacher, prepare_teachers
from nas_kd.latency.environment import differences
from nas_kd.nas.feasibility import at_lower_bound, is_borderline, log_excess, require_measured
from nas_kd.nas.gate import Gate
from nas_kd.nas.propose import Proposer
from nas_kd.nas.search_loop import SearchLoop
from nas_kd.nas.study import RunStudy
from nas_kd.nas.supernet.once_for_all import OnceForAll
from nas_kd.results.candidate import Architecture, Precision
from nas_kd.results.fronts import describe_closest_finalists, describe_closest_trials, winner
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
NEAR = log(1.25)


def search(config: SearchConfig, run_dir: Path, callback: Callback | None = None) -> RunRecord:
    """Search for students within the budget; a folder that holds an unfinished run is resumed.

    Raises:
        InputError: config, data, teacher or folder are not usable.
        BudgetError: no candidate can meet the budget, or no finalist does; the run's record says which come closest.
    """
    folder, callback = RunFolder(run_dir), callback or Callback()
    with locked(folder, config) as resumed:
        callback.on_start(str(run_dir), resumed)
        remove_leftovers(folder.store)
        with closing(WorkerProcesses(config, folder, callback)) as processes:
            context = Context.prepare(config, folder, callback)
            with training_threads(context.threads), closing(_open(context, processes)) as run:
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
        nearest = describe_closest_finalists(run.finalists, budget)
        raise BudgetError(f"no finalist meets the budget (their fronts are in the report); closest: {nearest}")


def _open(context: Context, processes: WorkerProcesses) -> "Run":
    """Prepare the teacher, then open the study: until it is there, nothing ties the folder to its config."""
    config, folder, callback = context.config, context.folder, context.callback
    builder = NetworkBuilder(context.data, context.space)
    gate = Gate(context, builder, processes.paused)
    callback.on_stage("preparing the teacher" if len(config.teacher) == 1 else "preparing the teachers")
    started = time.monotonic()
    teachers = prepare_teachers(context, gate)
    chain = Chain(context, builder, [t.teacher for t in teachers])
    chain.check((*config.distill.methods, config.chain.method))
    study = RunStudy(folder, config.name or folder.path.resolve().name, config.budget, config.distill.epochs)
    if study.teacher is None:
        study.save("teacher", teachers[0].record)
        for place, other in enumerate(teachers[1:], start=1):
            study.save(f"teacher/{place:03d}", other.record)
        study.spent("teacher", time.monotonic() - started)
    device = context.device.describe(context.batch_size)
    if (before := study.load("device", DeviceRecord)) is not None:
        _tell_changes(callback, before, device)
    study.save("dataset", dataset_record(context.data))
    study.save("device", device)
    write_environment(folder, dict(device.environment), context.threads)
    return Run(study, chain, gate, teachers, WorkerPool(chain, gate, processes))


def _tell_changes(callback: Callback, before: DeviceRecord, now: DeviceRecord) -> None:
    """Of the device since the run was worked on last: what was measured then stays in the record as it is."""
    facts = ({"batch_size": record.batch_size, **record.environment} for record in (before, now))
    if changes := differences(*facts):
        callback.on_note(f"the device is not what it was when this run was worked on last: {changes}")


class Run:
    """A search under way: everything loaded, the teachers ready; the first is the one that students are judged by."""

    def __init__(
        self, study: RunStudy, chain: Chain, gate: Gate, teachers: list[ReadyTeacher], pool: WorkerPool
    ) -> None:
        self.study, self.chain, self.gate, self.pool = study, chain, gate, pool
        self.teacher, self.others = teachers[0], teachers[1:]
        self.context, self.config, self.callback = chain.context, chain.context.config, chain.context.callback
        largest = self.teacher.teacher.parameters
        self.proposer = Proposer(self.config, self.context.space, chain.builder, largest)
        self.hypervolume = IncrementalHypervolume(self.teacher.record, self.context.data.n_classes)
        self._gained(study.records)
        if (elastic := study.load("once_for_all", OnceForAllRecord)) is not None:
            self._know(elastic)

    def close(self) -> None:
        """Let go of the study."""
        self.study.close()

    @property
    def is_finished(self) -> bool:
        """Whether the test split was read already."""
        return self.study.state == "finished"

    def require_reachable(self) -> None:
        """End the run early if not even the space's smallest network comes near the budget at any precision."""
        smallest: Architecture = self.context.space.size_ladder(2)[0]
        budget = self.config.budget
        possible = [self.gate.all_costs(smallest, precision=p, quick=True) for p in self.config.search.precisions]
        for costs in possible:
            require_measured(costs, budget)
        nearest = min(possible, key=lambda c: log_excess(at_lower_bound(c), budget))
        if log_excess(at_lower_bound(nearest), budget) > NEAR:
            description = costs_words(nearest, budget)
            self._give_up(f"the smallest network of space {self.context.space.name!r} has {description}")

    def prepare_first(self) -> None:
        """Find whom the search begins with: sizes spread over the budget, or an elastic network's best parts."""
        if self.config.search.strategy == "once-for-all":
            self._prepare_elastic()
        elif self.study.is_new:
            self.study.save("first", self.proposer.first(self._fits))

    def _prepare_elastic(self) -> None:
        if self.study.load("once_for_all", OnceForAllRecord) is None:
            with self.study.spending("once_for_all"):
                once_for_all = OnceForAll(self.chain, self.gate, self.pool, self.teacher.teacher)
                members, elastic = once_for_all.search(
                    time.monotonic() + self.study.left_s(self.config.search.max_minutes)
                )
            if not members:
                self._give_up("no sub-network that was judged is within the budget")
            self.study.save("first", self.proposer.plain(m.architecture for m in members))
            self.study.save("once_for_all", elastic)
            self._know(elastic)

    def _know(self, elastic: OnceForAllRecord) -> None:
        """Let students inherit from it, where the config says that they inherit."""
        self.chain.weight_sources = (elastic.key,)

    def _fits(self, architecture: Architecture, precision: Precision) -> bool:
        budget = self.config.budget
        costs = self.gate.costs(architecture, precision=precision, quick=True)
        if is_borderline(
            costs, budget
        ):  # a network at the very edge is trained to the end: it should not be refused then
            costs = self.gate.costs(architecture, precision=precision)
        return within_budget(costs, budget)

    def search(self) -> None:
        """Propose, gate, distil, judge, until there are enough candidates."""
        if self.study.state == "searching":
            self.pool.prepare_outputs()
            self.prepare_first()
            loop = SearchLoop(self.study, self.chain, self.gate, self.proposer, pool=self.pool, told=self._told)
            left = self.study.left_s(self.config.search.max_minutes)
            self.callback.on_search_start(loop.trials, None if left == inf else left)
            started = time.monotonic()
            loop.run()
            self.study.spent("idle", self.pool.idle_s(started))

    def _told(self, record: TrialRecord) -> None:
        self._gained([record])
        self.callback.on_trial_end(record, self.study.records, self.hypervolume.volume)

    def _gained(self, records: Iterable[TrialRecord]) -> None:
        """Candidates within the budget that were trained in full count, on validation accuracy."""
        for record in records:
            if record.status == "finished":
                self.hypervolume.add(record.val_accuracy, record.costs)

    def train_finalists(self) -> list[TrainedFinalist]:
        """The front's members over several seeds, with their controls; one more if no file is within the budget."""
        trainer = FinalistTrainer(self.chain, self.gate)
        self.callback.on_stage("measuring the front")
        with self.study.spending("finalists"):
            for record in trainer.measure_until_stable(self.study.records):
                self.study.correct(record)
        if not (chosen := trainer.choose(self.study.records)):
            self._explain_failures()
            self._give_up(describe_closest_trials(self.study.records, self.config.budget))
        self.study.save("state", "finalists")
        self.callback.on_stage("training finalists")
        with self.study.spending("finalists"):
            trained = self._train(trainer, chosen)
            numbers = {t.number for t in chosen}
            others = [t for t in self.study.records if t.number not in numbers]
            return trained + self._train(trainer, trainer.fallback_finalist(trained, others))

    def _train(self, trainer: FinalistTrainer, chosen: list[TrialRecord]) -> list[TrainedFinalist]:
        if self.pool.workers > 1:
            self._train_beforehand(trainer.jobs(chosen))
        return trainer.train(chosen, quiet=self.pool.workers > 1)

    def _train_beforehand(self, jobs: list[dict[str, Any]]) -> None:
        """Let all workers have a share; whatever fails here fails again, and is said, when it is looked for."""
        done = 0
        while jobs or self.pool.busy:
            while jobs and self.pool.has_room:
                self.pool.submit(jobs.pop(0))
            self.pool.wait()
            done += 1
            self.callback.on_finalist(done, done + len(jobs) + self.pool.busy, "")

    def read_test_once(self, finalists: list[TrainedFinalist]) -> None:
        """Judge finalists, controls and teacher on the test split; this ends the run."""
        self.callback.on_stage("reading the test split")
        trainer = FinalistTrainer(self.chain, self.gate)
        with self.study.spending("test"):
            for rank, finalist in enumerate(finalists):
                self.study.save(f"finalist/{rank:03d}", trainer.judge(finalist))
            for place, teacher in enumerate([self.teacher, *self.others]):
                self._read_test(teacher, f"teacher/{place:03d}" if place else "teacher")
        self._save_cache()
        self.study.save("elapsed_s", f"{self.study.elapsed_s:.3f}")
        self.study.save("state", "finished")

    def _save_cache(self) -> None:
        """How often the store had what was asked for, in this process and in its workers."""
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
        """If candidates passed the gate but none could be trained, it is not the budget that is to blame."""
        failed = [t for t in self.study.records if t.status == "failed"]
        if failed:
            raise TrialError(f"none of {len(failed)} candidates could be trained; the last one: {failed[-1].reason}")

    def _give_up(self, closest_candidates: str) -> None:
        message = f"no candidate can meet the budget; closest: {closest_candidates}"
        self.study.save("state", "unreachable")
        self.study.save("message", message)
        write_results(self.context.folder, read_run(self.context.folder))
        raise BudgetError(message)
