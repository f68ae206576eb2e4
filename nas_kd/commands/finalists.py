"""The front's members again, in full: several seeds, verified ONNX files, controls, and the test split, once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from nas_kd.config.options import Budget
from nas_kd.errors import TrialError
from nas_kd.export.verify import accuracy
from nas_kd.kd.artifacts import ArtifactBuilder, ExportedFile
from nas_kd.kd.chain import Chain
from nas_kd.kd.controls import Control, controls_of
from nas_kd.nas.gate import Gate
from nas_kd.nas.trial import measured_in_full
from nas_kd.results.candidate import Candidate
from nas_kd.results.intervals import accuracy_over_seeds, paired_gain
from nas_kd.results.limits import CostName, cost_values, describe_costs, ratios, within_budget
from nas_kd.results.pareto import hypervolume, non_dominated
from nas_kd.results.records import Accuracy, ControlRecord, Costs, FinalistRecord, SeedRecord, TrialRecord


@dataclass(frozen=True)
class TrainedFile:
    """One training of one network, exported and verified; its test accuracy is not known yet."""

    seed: int
    epochs: int
    file: ExportedFile


@dataclass(frozen=True)
class TrainedFinalist:
    """A finalist before the test."""

    trial: TrialRecord
    files: tuple[TrainedFile, ...]
    controls: tuple[tuple[Control, tuple[TrainedFile, ...]], ...]


def choose(trials: Sequence[TrialRecord], at_most: int, min_accuracy: float | None = None) -> list[TrialRecord]:
    """Members of the search's joint front within the budget, the most accurate first.

    Where there are more than `at_most`, those are taken one by one that add most hypervolume to the ones already taken;
    with a `min_accuracy` (0..1), the fastest member that reaches it, and all others that do, before those that do not.
    """
    judged = [t for t in trials if t.status == "finished" and t.within_budget]
    if not judged:
        return []
    points = np.array([_point(t) for t in judged])
    keep = non_dominated(points)
    members, points = [t for t, k in zip(judged, keep, strict=True) if k], points[keep]
    reference = points.max(axis=0) + 0.1 * (np.ptp(points, axis=0) + 1e-9)
    taken = [int(np.lexsort((points[:, 2], points[:, 1], points[:, 0]))[0])]
    reaching = [i for i, t in enumerate(members) if min_accuracy is not None and (t.val_accuracy or 0) >= min_accuracy]
    if reaching and at_most > 1 and (fastest := min(reaching, key=lambda i: (points[i, 2], i))) not in taken:
        taken.append(fastest)
    while len(taken) < min(at_most, len(members)):
        rest = [i for i in reaching if i not in taken] or [i for i in range(len(members)) if i not in taken]
        taken.append(max(rest, key=lambda i: (hypervolume(points[[*taken, i]], reference), -i)))
    return [members[i] for i in taken]


def fallback_finalist(
    refused: Sequence[tuple[TrialRecord, Costs]], others: Iterable[TrialRecord], budget: Budget
) -> list[TrialRecord]:
    """One more finalist, where none of those trained can be deployed; empty if none of the others leaves room enough.

    `refused`: those whose files, trained, are out of the budget, and what they cost. Whoever takes their place would be
    within it even if its own file were off by as much from what the search had measured.
    """
    growth = dict[CostName, float]()
    for trial, found in refused:
        before = cost_values(trial.costs) if trial.costs else {}
        for name, value in cost_values(found).items():
            if value and (searched := before.get(name)):
                growth[name] = max(growth.get(name, 1.0), value / searched)

    def has_room(trial: TrialRecord) -> bool:
        shares = ratios(cost_values(trial.costs), budget) if trial.costs else {}
        return all(share * growth.get(name, 1.0) <= 1 for name, share in shares.items())

    return choose([t for t in others if has_room(t)], 1)


def _point(trial: TrialRecord) -> tuple[float, float, float]:
    """Error, log size, log latency: all minimised."""
    costs = trial.costs
    if trial.val_accuracy is None or costs is None or costs.latency_ms is None:
        raise ValueError(f"trial {trial.number} is finished but not judged")
    return 1 - trial.val_accuracy, float(np.log(costs.require_size())), float(np.log(costs.latency_ms.p50))


class FinalistTrainer:
    """Trains finalists and their controls, then judges all of them on the test split."""

    def __init__(self, chain: Chain, gate: Gate) -> None:
        self._chain, self._gate = chain, gate
        self._context = chain.context
        self._files = ArtifactBuilder(chain.context)
        self._done = 0

    def choose(self, trials: Iterable[TrialRecord]) -> list[TrialRecord]:
        """As the config wants it."""
        config = self._context.config
        return choose(list(trials), config.finalists.max, config.budget.min_accuracy)

    def measure_until_stable(self, trials: Iterable[TrialRecord]) -> Iterator[TrialRecord]:
        """One by one, those that are chosen, or were chosen, for rough latencies, with thorough ones.

        Whoever turns out slower may lose its place to another, that is measured in its turn.
        """
        context, known, remeasure_borderline = self._context, {t.number: t for t in trials}, set[int]()
        while rough := [
            t
            for t in self.choose(known.values())
            if t.costs and t.costs.unstable and t.number not in remeasure_borderline
        ]:
            for trial in rough:
                remeasure_borderline.add(trial.number)
                try:
                    found = measured_in_full(trial, self._gate, context.config.budget)
                except TrialError as error:
                    context.callback.on_note(f"trial {trial.number} left out: {error}")
                    found = trial.model_copy(update={"status": "failed", "reason": str(error)})
                known[trial.number] = found
                yield found

    def fallback_finalist(self, trained: Sequence[TrainedFinalist], others: Iterable[TrialRecord]) -> list[TrialRecord]:
        """One of those not chosen, if no finalist's file is within the budget: see the function of that name."""
        budget = self._context.config.budget
        refused = [(f.trial, self._deployed(f)[1]) for f in trained]
        if not refused or any(within_budget(costs, budget) for _, costs in refused):
            return []
        found = fallback_finalist(refused, others, budget)
        for one in found:
            files = "; ".join(f"trial {trial.number}: {describe_costs(costs, budget)}" for trial, costs in refused)
            self._context.callback.on_note(
                f"out of the budget once trained: {files}; trial {one.number} takes the place"
            )
        return found

    def train(self, chosen: Sequence[TrialRecord], *, quiet: bool = False) -> list[TrainedFinalist]:
        """Train every finalist and control over the config's seeds; one that fails is left out and said.

        `quiet`: no progress is shown, as all lies in the store already.
        """
        options, trained, self._done = self._context.config.finalists, [], 0
        plans = self._plans(chosen)
        total = 0 if quiet else sum(1 + len(controls) for _, controls in plans) * options.seeds
        for trial, controls in plans:
            candidate = Candidate.from_json(trial.candidate)
            epochs = self._context.config.distill.epochs
            try:
                files = self._train_seeds(candidate, epochs, partial(self._step, total, trial.description))
                others = tuple(
                    (c, self._train_seeds(c.candidate, c.epochs, partial(self._step, total, c.kind))) for c in controls
                )
            except TrialError as error:
                self._context.callback.on_note(f"finalist {trial.id} left out: {error}")
                continue
            trained.append(TrainedFinalist(trial, files, others))
        return trained

    def _plans(self, chosen: Sequence[TrialRecord]) -> list[tuple[TrialRecord, list[Control]]]:
        with_controls = self._context.config.finalists.controls
        return [
            (t, controls_of(Candidate.from_json(t.candidate), self._chain) if with_controls else []) for t in chosen
        ]

    def jobs(self, chosen: Sequence[TrialRecord]) -> list[dict[str, Any]]:
        """The trainings that `train` needs, one by one; who has done them all finds them in the store."""
        full = self._context.config.distill.epochs
        trainings = [
            (candidate, epochs)
            for trial, controls in self._plans(chosen)
            for candidate, epochs in [
                (Candidate.from_json(trial.candidate), full),
                *((c.candidate, c.epochs) for c in controls),
            ]
        ]
        return [
            {"candidate": candidate.to_json(), "seed": seed, "epochs": epochs}
            for candidate, epochs in trainings
            for seed in self._seeds
        ]

    @property
    def _seeds(self) -> list[int]:
        """Those that the search did not use, so that the choice of finalists does not flatter them."""
        return [self._context.seed + n for n in range(1, self._context.config.finalists.seeds + 1)]

    def _step(self, total: int, description: str) -> None:
        self._done += 1
        if total:
            self._context.callback.on_finalist(self._done, total, description)

    def _train_seeds(self, candidate: Candidate, epochs: int, done: Callable[[], None]) -> tuple[TrainedFile, ...]:
        files = []
        for seed in self._seeds:
            files.append(self.prepare_file(candidate, seed, epochs))
            done()
        return tuple(files)

    def prepare_file(self, candidate: Candidate, seed: int, epochs: int) -> TrainedFile:
        """Train, export and verify, or take it from the store.

        Raises:
            TrialError: one of these fails.
        """
        trained = self._chain.distill(candidate, seed, epochs)
        return TrainedFile(seed, epochs, self._files.deployed(trained, candidate.precision))

    def judge(self, finalist: TrainedFinalist) -> FinalistRecord:
        """Read the test split with every file, and measure the deployed one's latency again."""
        trial, files = finalist.trial, finalist.files
        context = self._context
        seeds = tuple(self._tested(f) for f in files)
        best, costs = self._deployed(finalist)
        return FinalistRecord(
            id=trial.id,
            trial=trial.number,
            candidate=trial.candidate,
            description=trial.description,
            assistant_descriptions=trial.assistant_descriptions,
            costs=costs,
            notes=trial.notes,
            val=accuracy_over_seeds([f.file.val_accuracy for f in files], len(context.data.val)),
            test=self._test_accuracy(seeds),
            seeds=seeds,
            deployed_seed=best.seed,
            controls=tuple(self._control(control, others, seeds) for control, others in finalist.controls),
            training_s=round(sum(f.file.seconds for f in files) + trial.seconds.get("assistants", 0.0), 3),
            within_budget=within_budget(costs, context.config.budget),
        )

    def _deployed(self, finalist: TrainedFinalist) -> tuple[TrainedFile, Costs]:
        """The file that is the best on validation, and what it costs."""
        best = max(finalist.files, key=lambda f: (f.file.val_accuracy, -f.seed))
        deployed = Candidate.from_json(finalist.trial.candidate).deployed
        return best, self._gate.of_file(best.file.onnx, self._chain.builder.counted(deployed))

    def _control(self, control: Control, files: Sequence[TrainedFile], finalist: Sequence[SeedRecord]) -> ControlRecord:
        seeds = tuple(self._tested(f) for f in files)
        mine, theirs = [s.test_accuracy for s in finalist], [s.test_accuracy for s in seeds]
        return ControlRecord(
            kind=control.kind,
            seeds=seeds,
            accuracy=self._test_accuracy(seeds),
            gain=paired_gain(mine, theirs, len(self._context.data.test)),
            cost_ratio=round(control.cost_ratio, 4),
        )

    def _test_accuracy(self, seeds: Sequence[SeedRecord]) -> Accuracy:
        return accuracy_over_seeds([s.test_accuracy for s in seeds], len(self._context.data.test))

    def _tested(self, trained: TrainedFile) -> SeedRecord:
        file = trained.file
        return SeedRecord(
            seed=trained.seed,
            epochs=trained.epochs,
            val_accuracy=file.val_accuracy,
            test_accuracy=accuracy(file.onnx, self._context.data.test),
            seconds=file.seconds,
            parity=file.parity,
            agreement=file.agreement,
            sha256=file.sha256,
        )
