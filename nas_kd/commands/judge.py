"""Judges finalists, controls, baselines and the teacher on the test split: once, when nothing is left to choose."""

from collections.abc import Sequence

from nas_kd.commands.compare_compression import FINE_TUNING, SCRATCH, JudgedNetwork, compare, techniques_of
from nas_kd.commands.trained_files import (
    MeasuredBaseline,
    TrainedFile,
    TrainedFinalist,
    best_file,
    deployed_file,
    mean_val_score,
)
from nas_kd.context.run_context import RunContext
from nas_kd.export.calibrated_file import calibrate_file
from nas_kd.export.verify import decisions
from nas_kd.kd.controls import Control
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.ready_teacher import ReadyTeacher, decisions_on_test, tested_record
from nas_kd.nas.gate import Gate
from nas_kd.nas.study import RunStudy
from nas_kd.results.candidate import Candidate
from nas_kd.results.compression_record import BaselineRecord, CompressionRecord
from nas_kd.results.finalist_record import Accuracy, ControlRecord, FinalistRecord, SeedRecord
from nas_kd.results.intervals import accuracy_over_seeds, paired_gain
from nas_kd.results.limits import within_budget
from nas_kd.results.run_record import TeacherRecord
from nas_kd.results.trial_record import Costs
from nas_kd.scores.base import DEFAULT_SCORE, Decisions, load_score


class Judge:
    """Reads the test split with files, and keeps what they decided, so that networks can be compared in pairs."""

    def __init__(self, context: RunContext, builder: NetworkBuilder, gate: Gate) -> None:
        """Judge networks of a run.

        Args:
            context: data, score and budget of the run.
            builder: counts multiply-adds.
            gate: measures costs.
        """
        self._context, self._builder, self._gate = context, builder, gate
        self._tested: list[JudgedNetwork] = []

    def finalist(self, finalist: TrainedFinalist) -> FinalistRecord:
        """Read the test split with every file, and measure the deployed one's latency again."""
        trial, files, candidate = finalist.trial, finalist.files, finalist.trial.candidate
        context, score = self._context, self._context.score
        tested = [self._decisions(f) for f in files]
        seeds = tuple(self._seed_record(f, d) for f, d in zip(files, tested, strict=True))
        best, costs = deployed_file(finalist, self._builder, self._gate)
        self._keep(trial.id, self._techniques(candidate), files, tested, costs)
        return FinalistRecord(
            id=trial.id,
            trial=trial.number,
            candidate=candidate,
            description=trial.description,
            chain_description=trial.chain_description,
            costs=costs,
            notes=trial.notes,
            val=self._val_accuracy(files),
            val_score=self._val_score(files),
            test=self._test_accuracy(seeds),
            test_score=score.over_seeds([d.confusion for d in tested]),
            balanced=load_score("balanced_accuracy").over_seeds([d.confusion for d in tested]),
            confusion=tested[files.index(best)].confusion,
            seeds=seeds,
            deployed_seed=best.seed,
            controls=tuple(self._control(trial.id, c, others, tested, costs) for c, others in finalist.controls),
            training_s=round(sum(f.file.seconds for f in files) + trial.seconds.get("assistants", 0.0), 3),
            within_budget=within_budget(costs, context.config.budget),
            calibration=calibrate_file(best.file.onnx, context.data),
        )

    def baseline(self, made: MeasuredBaseline) -> BaselineRecord:
        """Read the test split with every file of a baseline."""
        context, score, files = self._context, self._context.score, made.files
        test = context.for_teacher().data.test
        tested = [made.network.decide(f.file.onnx, test) for f in files]
        seeds = tuple(self._seed_record(f, d) for f, d in zip(files, tested, strict=True))
        best = best_file(files)
        self._keep(made.id, made.baseline.techniques, files, tested, made.costs)
        return BaselineRecord(
            id=made.id,
            techniques=made.baseline.techniques,
            description=made.network.description,
            precision=made.network.precision,
            costs=made.costs,
            notes=made.network.notes,
            val=self._val_accuracy(files),
            val_score=score.over_seeds([d.confusion for d in made.val]),
            test=self._test_accuracy(seeds),
            test_score=score.over_seeds([d.confusion for d in tested]),
            balanced=load_score("balanced_accuracy").over_seeds([d.confusion for d in tested]),
            confusion=tested[files.index(best)].confusion,
            seeds=seeds,
            deployed_seed=best.seed,
            within_budget=within_budget(made.costs, context.config.budget),
        )

    def teacher(self, teacher: ReadyTeacher, record: TeacherRecord) -> tuple[TeacherRecord, Decisions | None]:
        """Read the test split with a teacher, as far as that is possible.

        Returns:
            Its record with the scores on test, and the classes that it gave the samples.
        """
        tested = decisions_on_test(teacher, self._context)
        return tested_record(record, tested, self._context), tested

    def compare(self, teacher: TeacherRecord, tested: Decisions | None) -> CompressionRecord:
        """Compare all that was judged with the teacher and with each other.

        Args:
            teacher: the run's first.
            tested: the classes that it gave the test samples.
        """
        return compare(self._tested, teacher, tested, self._context.score, self._context.test_chance)

    def _keep(
        self,
        name: str,
        techniques: tuple[str, ...],
        files: Sequence[TrainedFile],
        tested: Sequence[Decisions],
        costs: Costs,
    ) -> None:
        within = within_budget(costs, self._context.config.budget)
        seeds = {f.seed: d for f, d in zip(files, tested, strict=True)}
        self._tested.append(JudgedNetwork(name, techniques, seeds, mean_val_score(files), costs, within))

    def _val_accuracy(self, files: Sequence[TrainedFile]) -> Accuracy:
        return accuracy_over_seeds([f.file.val_accuracy for f in files], len(self._context.data.val))

    def _val_score(self, files: Sequence[TrainedFile]) -> Accuracy:
        """The score on validation over seeds."""
        if self._context.score.name == DEFAULT_SCORE:  # known without running the files again
            return self._val_accuracy(files)
        return self._context.score.over_seeds([decisions(f.file.onnx, self._context.data.val).confusion for f in files])

    def _techniques(self, candidate: Candidate) -> tuple[str, ...]:
        return techniques_of(candidate, self._builder.space(candidate.student))

    def _control(
        self,
        finalist: str,
        control: Control,
        files: Sequence[TrainedFile],
        distilled: Sequence[Decisions],
        costs: Costs,
    ) -> ControlRecord:
        score, tested = self._context.score, [self._decisions(f) for f in files]
        seeds = tuple(self._seed_record(f, d) for f, d in zip(files, tested, strict=True))
        mine, theirs = ([d.confusion.accuracy for d in group] for group in (distilled, tested))
        gain = paired_gain(mine, theirs, len(self._context.data.test))
        techniques = self._techniques(control.candidate)
        if {SCRATCH, FINE_TUNING} & {*techniques}:  # files as large and as fast
            self._keep(f"{finalist}/{control.kind}", techniques, files, tested, costs)
        return ControlRecord(
            kind=control.kind,
            seeds=seeds,
            accuracy=self._test_accuracy(seeds),
            gain=gain,
            score=score.over_seeds([d.confusion for d in tested]),
            score_gain=score.gain(distilled, tested),
            cost_ratio=round(control.cost_ratio, 4),
        )

    def _test_accuracy(self, seeds: Sequence[SeedRecord]) -> Accuracy:
        return accuracy_over_seeds([s.test_accuracy for s in seeds], len(self._context.data.test))

    def _decisions(self, trained: TrainedFile) -> Decisions:
        return decisions(trained.file.onnx, self._context.data.test)

    def _seed_record(self, trained: TrainedFile, tested: Decisions) -> SeedRecord:
        file = trained.file
        return SeedRecord(
            seed=trained.seed,
            epochs=trained.epochs,
            val_accuracy=file.val_accuracy,
            test_accuracy=tested.confusion.accuracy,
            val_score=file.val_score,
            test_score=self._context.score.value(tested.confusion),
            seconds=file.seconds,
            parity=file.parity,
            agreement=file.agreement,
            sha256=file.sha256,
            weights_key=file.weights_key,
            grad_ratios=file.grad_ratios,
        )


def read_test(
    study: RunStudy,
    judge: Judge,
    finalists: Sequence[TrainedFinalist],
    baselines: Sequence[MeasuredBaseline],
    teachers: Sequence[ReadyTeacher],
) -> None:
    """Judge everything, and save what comes out.

    Args:
        study: the run's record.
        judge: reads the test split.
        finalists: trained, with their controls.
        baselines: the teacher, compressed in other ways.
        teachers: of the run; students are compared with the first.
    """
    for rank, finalist in enumerate(finalists):
        study.save(f"finalist/{rank:03d}", judge.finalist(finalist))
    for rank, baseline in enumerate(baselines):
        study.save(f"baseline/{rank:03d}", judge.baseline(baseline))
    for place, teacher in enumerate(teachers):
        name = f"teacher/{place:03d}" if place else "teacher"
        record, tested = judge.teacher(teacher, study.load(name, TeacherRecord) or teacher.record)
        study.save(name, record)
        if place == 0:
            study.save("compression", judge.compare(record, tested))
