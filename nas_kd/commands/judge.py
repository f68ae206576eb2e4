"""Judges finalists, controls, baselines and the teacher on the test split: once, when nothing is left to choose."""

from collections.abc import Mapping, Sequence
from typing import Any

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
from nas_kd.data.dataset import as_input
from nas_kd.export.calibrated_file import calibrate_file, decision_of_file
from nas_kd.export.verify import evidence_of_file, outputs_of_file
from nas_kd.kd.controls import Control
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.ready_teacher import ReadyTeacher, evidence_on_test, tested_record
from nas_kd.nas.gate import Gate
from nas_kd.nas.study import RunStudy
from nas_kd.results.candidate import Candidate
from nas_kd.results.compression_record import BaselineRecord, CompressionRecord
from nas_kd.results.finalist_record import Accuracy, ControlRecord, FinalistRecord, PictureRecord, SeedRecord
from nas_kd.results.limits import within_budget
from nas_kd.results.run_record import TeacherRecord
from nas_kd.results.trial_record import Costs
from nas_kd.scores.base import Evidence

PICTURED = 6  # test samples


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
        first = context.data.task.headline_score
        tested = [self._evidence(f) for f in files]
        seeds = tuple(self._seed_record(f, d) for f, d in zip(files, tested, strict=True))
        best, costs = deployed_file(finalist, self._builder, self._gate)
        rule = decision_of_file(best.file.onnx, context.data)
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
            test=self._first_score(tested),
            test_score=score.over_seeds(tested),
            **context.data.task.details(tested, tested[files.index(best)]),
            pictures=self._pictures(best, rule),
            seeds=seeds,
            deployed_seed=best.seed,
            deployed_val=first.of(self._on_validation([best])[0]),
            deployed_test=first.of(tested[files.index(best)]),
            controls=tuple(self._control(trial.id, c, others, tested, costs) for c, others in finalist.controls),
            training_s=round(sum(f.file.seconds for f in files) + trial.seconds.get("assistants", 0.0), 3),
            within_budget=within_budget(costs, context.config.budget),
            calibration=calibrate_file(best.file.onnx, context.data),
            decision=rule,
        )

    def baseline(self, made: MeasuredBaseline) -> BaselineRecord:
        """Read the test split with every file of a baseline."""
        context, score, files = self._context, self._context.score, made.files
        task, test = context.data.task, context.for_teacher().data.test
        tested = [task.evidence(made.network.run(f.file.onnx, test.x), test.y.numpy()) for f in files]
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
            val=context.data.task.headline_score.over_seeds(made.val),
            val_score=score.over_seeds(made.val),
            test=self._first_score(tested),
            test_score=score.over_seeds(tested),
            **context.data.task.details(tested, tested[files.index(best)]),
            seeds=seeds,
            deployed_seed=best.seed,
            within_budget=within_budget(made.costs, context.config.budget),
        )

    def teacher(self, teacher: ReadyTeacher, record: TeacherRecord) -> tuple[TeacherRecord, Evidence | None]:
        """Read the test split with a teacher, as far as that is possible.

        Returns:
            Its record with the scores on test, and what it did with the samples.
        """
        tested = evidence_on_test(teacher, self._context)
        return tested_record(record, tested, self._context), tested

    def compare(self, teacher: TeacherRecord, tested: Evidence | None) -> CompressionRecord:
        """Compare all that was judged with the teacher and with each other.

        Args:
            teacher: the run's first.
            tested: what it did with the test samples.
        """
        return compare(self._tested, teacher, tested, self._context.score, self._context.test_chance)

    def _keep(
        self,
        name: str,
        techniques: tuple[str, ...],
        files: Sequence[TrainedFile],
        tested: Sequence[Evidence],
        costs: Costs,
    ) -> None:
        within = within_budget(costs, self._context.config.budget)
        seeds = {f.seed: d for f, d in zip(files, tested, strict=True)}
        self._tested.append(JudgedNetwork(name, techniques, seeds, mean_val_score(files), costs, within))

    def _pictures(self, trained: TrainedFile, rule: Mapping[str, Any]) -> tuple[PictureRecord, ...]:
        """What a file says of the first test samples, by its rule to decide."""
        data, x = self._context.data, as_input(self._context.data.test.x[:PICTURED])
        y, outputs = data.test.y[:PICTURED].numpy(), outputs_of_file(trained.file.onnx, x)
        return data.task.pictures(x.numpy(), y, outputs, data.classes, rule)

    def _val_accuracy(self, files: Sequence[TrainedFile]) -> Accuracy:
        """The headline score on validation over seeds."""
        return self._context.data.task.headline_score.over_seeds(self._on_validation(files))

    def _on_validation(self, files: Sequence[TrainedFile]) -> list[Evidence]:
        data = self._context.data
        return [evidence_of_file(f.file.onnx, data.val, data.task) for f in files]

    def _val_score(self, files: Sequence[TrainedFile]) -> Accuracy:
        """The score on validation over seeds."""
        if self._context.score.name == self._context.data.task.headline:  # known without running the files again
            return self._val_accuracy(files)
        return self._context.score.over_seeds(self._on_validation(files))

    def _techniques(self, candidate: Candidate) -> tuple[str, ...]:
        return techniques_of(candidate, self._builder.space(candidate.student))

    def _control(
        self,
        finalist: str,
        control: Control,
        files: Sequence[TrainedFile],
        distilled: Sequence[Evidence],
        costs: Costs,
    ) -> ControlRecord:
        score, tested = self._context.score, [self._evidence(f) for f in files]
        seeds = tuple(self._seed_record(f, d) for f, d in zip(files, tested, strict=True))
        techniques = self._techniques(control.candidate)
        if {SCRATCH, FINE_TUNING} & {*techniques}:  # files as large and as fast
            self._keep(f"{finalist}/{control.kind}", techniques, files, tested, costs)
        return ControlRecord(
            kind=control.kind,
            seeds=seeds,
            accuracy=self._first_score(tested),
            gain=self._context.data.task.headline_score.gain(distilled, tested),
            score=score.over_seeds(tested),
            score_gain=score.gain(distilled, tested),
            cost_ratio=round(control.cost_ratio, 4),
        )

    def _first_score(self, tested: Sequence[Evidence]) -> Accuracy:
        return self._context.data.task.headline_score.over_seeds(tested)

    def _evidence(self, trained: TrainedFile) -> Evidence:
        return evidence_of_file(trained.file.onnx, self._context.data.test, self._context.data.task)

    def _seed_record(self, trained: TrainedFile, tested: Evidence) -> SeedRecord:
        file = trained.file
        return SeedRecord(
            seed=trained.seed,
            epochs=trained.epochs,
            val_accuracy=file.val_accuracy,
            test_accuracy=self._context.data.task.first_score(tested),
            val_score=file.val_score,
            test_score=self._context.score.value(tested),
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
