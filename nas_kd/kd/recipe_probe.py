"""The recipe probe: one network is trained for a short while by a few settings, and the best of them for longer.

Successive halving (Jamieson & Talwalkar 2016, arXiv:1502.07943). Every setting's result is kept under its content, so
that a probe that was interrupted goes on, and the same probe elsewhere is the same.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from nas_kd.config.key_facts import clipping_facts, key_facts, score_facts
from nas_kd.context.callbacks import Callback, EpochEnd, StopRun
from nas_kd.context.run_context import RunContext
from nas_kd.engine.evaluation import evidence_of, label_loss_of
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.errors import TrialError
from nas_kd.kd.candidate_failure import as_trial_error
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.probe_plan import ProbePlan, best_first, choose, next_settings
from nas_kd.methods.combine import make_method, method_facts
from nas_kd.results.candidate import Architecture, Candidate, Recipe
from nas_kd.results.recipe_record import ProbeRecord, RecipeRecord
from nas_kd.results.training_recipe import TrainingRecipe
from nas_kd.serialization import fingerprint

NOT_PROBED = ("standardize", "checkpoint", "progression")  # of `distill`: probes are taught as at the default


class _OutOfTime(StopRun):
    """Raised inside a training when the probe's time is over."""


class RecipeProbe:
    """Short trainings of one network by different settings."""

    def __init__(
        self,
        context: RunContext,
        builder: NetworkBuilder,
        teachers: Sequence[Teacher],
        *,
        network: Architecture,
        method: str,
        until: float | None,
    ) -> None:
        """Prepare; nothing is trained yet.

        Args:
            context: of the run; its recipe is the rules'.
            builder: builds the network.
            teachers: that it learns from; none where it learns from labels alone.
            network: that is trained.
            method: of distillation.
            until: when to stop, by `time.monotonic`; None: when done.
        """
        self._context, self._base = context, context.recipe
        self._watch = _Watch(context.callback, until)
        self._distiller = Distiller.for_run(replace(context, callback=self._watch), builder, teachers)
        self._network, self._method = network, method
        self._description, self._n_val = builder.description(network), len(context.data.val)
        self._chance, config = context.metric.chance, context.config
        self._facts = {
            "data": context.data.training_key,
            "augment": key_facts(config.data.augment),
            "distill": key_facts(config.distill, {"methods", "probe_minutes", *NOT_PROBED}),
            "network": network.to_json(),
            "method": method,
            "teachers": [t.key for t in teachers],
            "seed": context.seed,
            "numerics": [context.numerics.bf16, context.numerics.channels_last],
            "torch": torch.__version__,
            **score_facts(context.score.name, context.data.task.headline),
            **({} if builder.start is None else {"start": builder.start.key}),
            **clipping_facts(config.distill.calibrate),
            **method_facts(make_method(method), calibrated=config.distill.calibrate),
        }

    def run(self, settings: Sequence[TrainingRecipe], plan: ProbePlan, given: Sequence[str] = ()) -> RecipeRecord:
        """Train settings round by round, and choose.

        Args:
            settings: the rules' recipe first; as many as the plan's first round has are tried.
            plan: rounds.
            given: names of the fields that the user gave.
        """
        started = time.monotonic()
        left, latest = list(settings[: plan.settings[0]]), dict[TrainingRecipe, ProbeRecord]()
        compared: list[ProbeRecord] = []  # of the last round that is complete, or of the first as far as it came
        note = None
        for level in range(len(plan.epochs)):
            done: list[ProbeRecord] = []
            try:
                for recipe in left:
                    done.append(self._train(recipe, plan.epochs, level))
                    latest[recipe] = done[-1]
                    self._context.callback.on_progress("trying recipes: setting", len(latest), len(settings))
            except _OutOfTime:
                note = f"time was over after {len(latest)} setting{'' if len(latest) == 1 else 's'}"
            if note is None or level == 0:
                compared = done
            if note is not None or level == len(plan.epochs) - 1:
                break
            count, ranked = plan.settings[level + 1], self._ranked(done)
            if level == 0:
                left = next_settings(self._base, ranked, count)
            else:  # the best, and the rules' to compare it with
                left = list(dict.fromkeys([self._base, *(r.recipe for r in ranked)]))[:count]
        return self._record(compared, latest, time.monotonic() - started, note, given)

    def _learns(self, records: Sequence[ProbeRecord]) -> bool:
        """Whether the best of them is shown to be better than guessing."""
        return self._best_interval(records)[0] > self._chance

    def _learns_too_little(self, records: Sequence[ProbeRecord]) -> str:
        network, (low, high) = (
            f"the network that recipes are tried on ({self._description})",
            self._best_interval(records),
        )
        if high <= self._chance:
            return f"{network} learns nothing in so short a training"
        return (
            f"{network} is not shown to learn anything in so short a training: 95 % interval on {self._n_val:,} "
            f"validation samples {low:.1%} to {high:.1%}, guessing gets {self._chance:.1%}"
        )

    def _best_interval(self, records: Sequence[ProbeRecord]) -> tuple[float, float]:
        return max(records, key=lambda r: r.val_score).interval(self._n_val)

    def _ranked(self, records: Sequence[ProbeRecord]) -> list[ProbeRecord]:
        return best_first(records, self._base.epochs, self._n_val)

    def _train(self, recipe: TrainingRecipe, rounds: tuple[int, ...], level: int) -> ProbeRecord:
        """Train a setting up to a round, or find its result."""
        store, epochs = self._context.store, rounds[level]
        key = fingerprint([self._facts, recipe.to_json(), rounds[: level + 1], rounds[-1]])
        if (known := store.load_json("probe", key)) is not None:
            return ProbeRecord.model_validate(known)
        changes = self._base.differences(recipe)
        candidate = Candidate(self._network, (), Recipe(self._method, training=changes))
        before = ProbeRecord(recipe=recipe, epochs=0) if level == 0 else self._train(recipe, rounds, level - 1)
        if before.failed is not None:
            return before
        self._watch.begin(before.curve)
        try:
            with as_trial_error():
                trained = self._distiller.distill(
                    candidate, self._context.seed, rounds[-1], until=epochs, restarts=rounds[:-1]
                )
            data, numerics, score = self._context.data, self._context.numerics, self._context.score
            evidence = evidence_of(trained.model, data.val, data.task, numerics)
            low, high = score.interval(trained.val_score, [evidence])
            record = ProbeRecord(
                recipe=recipe,
                epochs=epochs,
                val_accuracy=trained.val_accuracy,
                val_score=trained.val_score,
                low=low,
                high=high,
                val_loss=label_loss_of(trained.model, data.val, data.task, numerics),
                curve=tuple(self._watch.curve.get(e) for e in range(1, epochs + 1)),
                rounds=(*before.rounds, (epochs, trained.val_score)),
                seconds=round(trained.seconds, 3),
            )
        except TrialError as error:
            record = ProbeRecord(recipe=recipe, epochs=epochs, failed=str(error))
        store.save_json("probe", key, record.model_dump(mode="json"))
        return record

    def _record(
        self,
        compared: Sequence[ProbeRecord],
        latest: dict[TrainingRecipe, ProbeRecord],
        seconds: float,
        note: str | None,
        given: Sequence[str],
    ) -> RecipeRecord:
        """What the probe has found; the rules' recipe where it could compare nothing."""
        usable = [r for r in compared if r.failed is None]
        base = next((r for r in usable if r.recipe == self._base), None)
        chosen = None
        if base is not None:
            chosen = choose(base, self._ranked(usable), self._base.epochs, self._n_val)
        elif usable:
            chosen = self._ranked(usable)[0]
        if chosen is None or len(usable) < 2:
            failed = sum(r.failed is not None for r in compared)
            note = note or (f"{failed} of {len(compared)} settings could not be trained" if failed else None)
            chosen = None
        elif not self._learns(usable):
            note = self._learns_too_little(usable)
            chosen = None
        return RecipeRecord(
            recipe=self._base if chosen is None else chosen.recipe,
            origin="rules" if chosen is None else "probe",
            given=tuple(given),
            rules=self._base,
            network=self._description,
            settings=tuple(latest.values()),
            compared_epochs=0 if chosen is None else chosen.epochs,
            gain=None if chosen is None or base is None else chosen.val_score - base.val_score,
            augmentation_gain=None if chosen is None else _augmentation_gain(chosen, usable),
            epochs_spent=sum(r.epochs for r in latest.values()),
            seconds=round(seconds, 3),
            note=note,
        )


def _augmentation_gain(chosen: ProbeRecord, compared: Sequence[ProbeRecord]) -> float | None:
    """How far the best setting with the chosen augmentation is ahead of the best one with none, or of the others."""
    others = [r for r in compared if (r.recipe.augment == "none") != (chosen.recipe.augment == "none")]
    return chosen.val_score - max(r.val_score for r in others) if others else None


class _Watch(Callback):
    """Keeps the curve of the training under way, passes its progress on, and ends it when time is over."""

    def __init__(self, outer: Callback, until: float | None) -> None:
        self._outer, self._until = outer, until
        self.curve: dict[int, float | None] = {}

    def begin(self, curve: Sequence[float | None]) -> None:
        """A training begins, or goes on after these accuracies."""
        self.curve = dict(enumerate(curve, start=1))
        self._check()

    def _check(self) -> None:
        if self._until is not None and time.monotonic() >= self._until:
            raise _OutOfTime

    def on_epoch_end(self, event: EpochEnd) -> None:
        """Take the score on validation."""
        if event.val_score is not None:
            self.curve[event.epoch] = round(event.val_score, 5)
        self._outer.on_epoch_end(event)
        self._check()
