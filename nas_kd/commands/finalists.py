"""Trains the front's members again, in full: several seeds, verified ONNX files, and controls."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from nas_kd.commands.choose_finalists import choose, fallback_finalist
from nas_kd.commands.finalist_plan import FinalistCost, plan_finalists
from nas_kd.commands.trained_files import TrainedFile, TrainedFinalist, deployed_file
from nas_kd.context.run_context import RunContext
from nas_kd.errors import TrialError
from nas_kd.kd.artifacts import ArtifactBuilder
from nas_kd.kd.candidate_failure import as_trial_error
from nas_kd.kd.controls import Control, controls_of
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.training_work import TrainingWork
from nas_kd.nas.gate import Gate
from nas_kd.nas.jobs import TrainFinalist
from nas_kd.nas.trial import measured_in_full
from nas_kd.results.candidate import Candidate
from nas_kd.results.finalist_record import FinalistPlan
from nas_kd.results.limits import describe_costs, within_budget
from nas_kd.results.trial_record import TrialRecord


class FinalistTrainer:
    """Trains finalists and their controls."""

    def __init__(self, context: RunContext, distiller: Distiller, artifacts: ArtifactBuilder, gate: Gate) -> None:
        """Train with these parts.

        Args:
            context: config, data and callback of the run.
            distiller: trains candidates.
            artifacts: makes and verifies files.
            gate: measures costs.
        """
        self._context, self._distiller, self._artifacts, self._gate = context, distiller, artifacts, gate
        self._options, self._full_epochs = context.config.finalists, context.recipe.epochs
        self._done = 0

    def choose(self, trials: Iterable[TrialRecord]) -> list[TrialRecord]:
        """Choose finalists as the config asks for, see the function of the same name."""
        return choose(list(trials), self._options.max, self._context.config.budget.least_score)

    def measured_front(self, trials: Iterable[TrialRecord]) -> Iterator[TrialRecord]:
        """Measure in full, one by one, the chosen trials whose quick measurement is unstable; yields new records.

        A trial that turns out slower may lose its place to another, which is then measured in its turn.
        """
        known, measured = {t.number: t for t in trials}, set[int]()
        while unstable := [
            t for t in self.choose(known.values()) if t.costs and t.costs.unstable and t.number not in measured
        ]:
            for trial in unstable:
                measured.add(trial.number)
                try:
                    with as_trial_error(inputs=False):
                        found = measured_in_full(trial, self._gate, self._context.config.budget)
                except TrialError as error:
                    self._context.callback.on_note(f"trial {trial.number} left out: {error}")
                    found = trial.model_copy(update={"status": "failed", "reason": str(error)})
                known[trial.number] = found
                yield found

    def fallback_finalist(self, trained: Sequence[TrainedFinalist], others: Iterable[TrialRecord]) -> list[TrialRecord]:
        """Choose one more finalist if the best one's file is out of the budget.

        See the function of the same name. One that the search found worse than a finalist that can be deployed would be
        of no use.
        """
        budget = self._context.config.budget
        found = {f.trial.number: deployed_file(f, self._distiller.builder, self._gate)[1] for f in trained}
        refused = [f for f in trained if not within_budget(found[f.trial.number], budget)]
        if not refused or max(trained, key=TrainedFinalist.mean_val_score) not in refused:
            return []
        least = max((f.trial.val_score or 0.0 for f in trained if f not in refused), default=0.0)
        chosen = [
            trial
            for trial in fallback_finalist([(f.trial, found[f.trial.number]) for f in refused], others, budget)
            if (trial.val_score or 0.0) >= least
        ]
        for one in chosen:
            files = "; ".join(
                f"trial {f.trial.number}: {describe_costs(found[f.trial.number], budget)}" for f in refused
            )
            self._context.callback.on_note(
                f"out of the budget once trained: {files}; trial {one.number} takes the place"
            )
        return chosen

    def plan(self, chosen: Sequence[TrialRecord], cost_before: float) -> FinalistPlan:
        """Plan how many of these finalists are trained, and with how many seeds and controls, see `plan_finalists`.

        Under a time limit the search's time stands for what was trained, and trainings take what their records say.
        """
        work, full = TrainingWork(self._distiller.builder, self._context.recipe.batch_size), self._full_epochs
        costs = [FinalistCost.of(trial.candidate, self._options, work, full) for trial in chosen]
        search = self._context.config.search
        if search.max_minutes is not None:
            costs = [cost.timed(full * trial.epoch_s) for cost, trial in zip(costs, chosen, strict=True)]
            cost_before = 60 * search.max_minutes * search.workers
        return plan_finalists(costs, cost_before, self._options, full)

    def train(
        self, chosen: Sequence[TrialRecord], plan: FinalistPlan, *, silent: bool = False
    ) -> list[TrainedFinalist]:
        """Train every finalist and control over the plan's seeds; one that fails is left out, with a note.

        Args:
            chosen: the finalists' trials.
            plan: how many seeds, and which of them have controls.
            silent: report no progress, as everything is in the store already.
        """
        trained, self._done = [], 0
        controlled = self._with_controls(chosen, plan)
        total = 0 if silent else sum(1 + len(controls) for _, controls in controlled) * plan.seeds
        seeds = self._seeds(plan)
        for trial, controls in controlled:
            try:
                with as_trial_error():
                    files = self._train_seeds(
                        trial.candidate, self._full_epochs, seeds, partial(self._count, total, trial.description)
                    )
                    others = tuple(
                        (c, self._train_seeds(c.candidate, c.epochs, seeds, partial(self._count, total, c.kind)))
                        for c in controls
                    )
            except TrialError as error:
                self._context.callback.on_note(f"finalist {trial.id} left out: {error}")
                continue
            trained.append(TrainedFinalist(trial, files, others))
        return trained

    def _with_controls(
        self, chosen: Sequence[TrialRecord], plan: FinalistPlan
    ) -> list[tuple[TrialRecord, list[Control]]]:
        """Pair finalists with their controls; the first has some even if the plan was made for others, without any."""
        controlled = max(1, plan.controlled) if self._options.controls else 0
        builder, full = self._distiller.builder, self._full_epochs
        options = self._options.model_copy(update={"max_control_epochs": plan.control_epochs / full})

        def controls(rank: int, candidate: Candidate) -> list[Control]:
            return controls_of(candidate, builder, full, options) if rank < controlled else []

        return [(trial, controls(rank, trial.candidate)) for rank, trial in enumerate(chosen)]

    def jobs(self, chosen: Sequence[TrialRecord], plan: FinalistPlan) -> list[TrainFinalist]:
        """List the trainings that `train` needs, one by one; `train` then finds their results in the store."""
        trainings = [
            (candidate, epochs)
            for trial, controls in self._with_controls(chosen, plan)
            for candidate, epochs in [
                (trial.candidate, self._full_epochs),
                *((c.candidate, c.epochs) for c in controls),
            ]
        ]
        sources = self._distiller.weight_sources
        return [
            TrainFinalist(candidate, seed, epochs, sources)
            for candidate, epochs in trainings
            for seed in self._seeds(plan)
        ]

    def _seeds(self, plan: FinalistPlan) -> list[int]:
        """Seeds that the search did not use, so that the choice of finalists does not flatter them."""
        return [self._context.seed + n for n in range(1, plan.seeds + 1)]

    def _count(self, total: int, description: str) -> None:
        self._done += 1
        if total:
            self._context.callback.on_finalist(self._done, total, description)

    def _train_seeds(
        self, candidate: Candidate, epochs: int, seeds: Sequence[int], done: Callable[[], None]
    ) -> tuple[TrainedFile, ...]:
        files = []
        for seed in seeds:
            trained = self._distiller.distill(candidate, seed, epochs)
            files.append(TrainedFile(seed, epochs, self._artifacts.verified_file(trained, candidate.precision)))
            done()
        return tuple(files)
