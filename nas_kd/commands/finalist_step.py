"""The step of a search from its front to trained finalists."""

from dataclasses import dataclass

from nas_kd.commands.failed_search import give_up, require_trainable
from nas_kd.commands.finalist_plan import describe_plan
from nas_kd.commands.finalists import FinalistTrainer
from nas_kd.commands.trained_files import TrainedFinalist
from nas_kd.commands.training_costs import search_cost, student_friendly_cost, supernet_cost, teachers_cost
from nas_kd.context.run_context import RunContext
from nas_kd.kd.artifacts import ArtifactBuilder
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.ready_teacher import ReadyTeacher
from nas_kd.kd.training_work import TrainingWork
from nas_kd.nas.gate import Gate
from nas_kd.nas.jobs import TrainFinalist
from nas_kd.nas.study import RunStudy
from nas_kd.nas.worker_pool import WorkerPool
from nas_kd.results.finalist_record import FinalistPlan
from nas_kd.results.fronts import describe_closest_trials
from nas_kd.results.run_record import OnceForAllRecord
from nas_kd.results.trial_record import TrialRecord


@dataclass(frozen=True)
class FinalistStep:
    """Chooses finalists and trains them; what is done already is found in the store.

    Attributes:
        context: of the run, with its recipe.
        study: the run's record.
        distiller: trains candidates.
        artifacts: exports them.
        gate: measures costs.
        teachers: of the run.
        pool: its workers.
    """

    context: RunContext
    study: RunStudy
    distiller: Distiller
    artifacts: ArtifactBuilder
    gate: Gate
    teachers: list[ReadyTeacher]
    pool: WorkerPool

    def train(self) -> list[TrainedFinalist]:
        """Train the front's members over several seeds, with their controls; one more if the best is over the budget.

        Raises:
            BudgetError: no candidate met the budget.
            TrialError: candidates met it, and none could be trained.
        """
        trainer = self.trainer()
        self.context.callback.on_stage("measuring the front")
        with self.study.timed("finalists"):
            for record in trainer.measured_front(self.study.records):
                self.study.correct(record)
        if not (chosen := trainer.choose(self.study.records)):
            require_trainable(self.study)
            give_up(self.context, self.study, describe_closest_trials(self.study.records, self.context.config.budget))
        plan = self._plan_finalists(trainer, chosen)
        self.study.save("state", "finalists")
        self.context.callback.on_stage("training finalists")
        with self.study.timed("finalists"):
            trained, tried = self._train(trainer, chosen[: plan.finalists], plan), chosen[: plan.finalists]
            for trial in chosen[plan.finalists :]:
                if not trained:  # none of them could be
                    trained, tried = self._train(trainer, [trial], plan), [*tried, trial]
            numbers = {t.number for t in tried}
            others = [t for t in self.study.records if t.number not in numbers]
            return trained + self._train(trainer, trainer.fallback_finalist(trained, others), plan)

    def _plan_finalists(self, trainer: FinalistTrainer, chosen: list[TrialRecord]) -> FinalistPlan:
        """Plan how many of those chosen are trained; what was planned once is kept when the run is resumed."""
        if (planned := self.study.load("finalist_plan", FinalistPlan)) is not None:
            return planned
        plan = trainer.plan(chosen, self._training_cost())
        if note := describe_plan(plan):
            self.context.callback.on_note(note)
        self.study.save("finalist_plan", plan)
        return plan

    def _training_cost(self) -> float:
        """Multiply-adds per training sample of all that was trained so far."""
        work = TrainingWork(self.distiller.builder, self.context.recipe.batch_size)
        full, trials = self.context.recipe.epochs, self.study.records
        macs = (work.of_macs(t.teacher.macs) for t in self.teachers)
        teachers = zip(self.context.config.teacher, macs, strict=True)
        trained = teachers_cost(teachers, self.context.teacher_epochs)
        if (tuned := self.teachers[0].record.student_friendly) is not None:
            networks = [tuned.macs / tuned.networks_per_step] * tuned.networks_per_step
            students = [float(cut.macs) for cut in tuned.cuts]
            trained += student_friendly_cost(tuned.epochs, networks, tuned.student_epochs, students, work)
        cost = search_cost(trials, work, full) + self.context.teacher_epoch * trained
        if (supernet := self.study.load("once_for_all", OnceForAllRecord)) is not None:
            members = [t.candidate.student for t in trials]
            ends = self.distiller.builder.ends()
            cost += supernet_cost(supernet.epochs, supernet.networks_a_step, ends, members, work)
        return cost

    def trainer(self) -> FinalistTrainer:
        """What trains and judges them, with weights from the elastic network if there is one."""
        supernet = self.study.load("once_for_all", OnceForAllRecord)
        sources = (supernet.key,) if supernet else ()
        distiller = self.distiller.inheriting_from(sources)
        return FinalistTrainer(self.context, distiller, self.artifacts, self.gate)

    def _train(self, trainer: FinalistTrainer, chosen: list[TrialRecord], plan: FinalistPlan) -> list[TrainedFinalist]:
        if self.pool.workers > 1:
            self._train_in_workers(trainer.jobs(chosen, plan))
        return trainer.train(chosen, plan, silent=self.pool.workers > 1)

    def _train_in_workers(self, jobs: list[TrainFinalist]) -> None:
        """Let all workers train a share; what fails here fails again, and is reported, when it is looked for."""
        done = 0
        while jobs or self.pool.busy:
            while jobs and self.pool.has_room:
                self.pool.submit(jobs.pop(0))
            self.pool.wait()
            done += 1
            self.context.callback.on_finalist(done, done + len(jobs) + self.pool.busy, "")
