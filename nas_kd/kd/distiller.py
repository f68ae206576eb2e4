"""Distills candidates along a chain, teacher -> assistants -> student; each network is trained once and stored.

Which teachers a link has is the chain policy's to decide (`chain_policies/`), what is cached is `training_cache.py`'s,
and what a training is, `trainer.py`'s.
"""

from collections.abc import Sequence
from itertools import product

from torch import nn

from nas_kd.config.teaching_values import Progression
from nas_kd.context.run_context import RunContext
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.engine.training import Training
from nas_kd.errors import InputError, TrialError
from nas_kd.kd.chain_policies.base import ChainPolicy, load_policy
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.shared_outputs import SharedOutputs
from nas_kd.kd.trainer import Trainer
from nas_kd.kd.training_job import TrainedModel, TrainingJob, training_precision
from nas_kd.kd.warm_start import find_weight_source
from nas_kd.methods.base import Method
from nas_kd.methods.combine import make_method
from nas_kd.methods.teaching import usable_teaching, with_teaching
from nas_kd.plugins import display_name
from nas_kd.results.candidate import DEFAULT_POLICY, NO_DISTILLATION, Architecture, Candidate, Recipe
from nas_kd.results.teaching import Teaching
from nas_kd.user_code import describe_error, unchanged_settings

GENERATION_SEED_STEP = 1_000_003  # every generation starts from weights of its own


class Distiller:
    """Trains whole candidates, and remembers the assistants that they share."""

    def __init__(
        self,
        trainer: Trainer,
        teachers: Sequence[Teacher],
        *,
        assistant_method: str,
        seed: int,
        inherit: bool = False,
        weight_sources: tuple[str, ...] = (),
    ) -> None:
        """Distill from these teachers.

        Args:
            trainer: trains single networks.
            teachers: of the run; methods that take one teacher get the first.
            assistant_method: how assistants are distilled.
            seed: of assistants.
            inherit: whether taught networks start from weights cut out of larger ones, where they are part of them.
            weight_sources: keys of stored weights to cut from, in order of preference; after them the teachers'.
        """
        self.trainer, self.builder = trainer, trainer.builder
        self.weight_sources = weight_sources
        self._roots, self._assistant_method = tuple(teachers), assistant_method
        self._seed, self._inherit = seed, inherit
        self._assistants: dict[tuple[str, tuple[Architecture, ...]], Teacher] = {}
        self._inheriting: dict[tuple[str, ...], Distiller] = {weight_sources: self}

    def inheriting_from(self, weight_sources: tuple[str, ...]) -> "Distiller":
        """The same distiller for networks that may start from these stored weights, by key."""
        if weight_sources not in self._inheriting:
            self._inheriting[weight_sources] = Distiller(
                self.trainer,
                self._roots,
                assistant_method=self._assistant_method,
                seed=self._seed,
                inherit=self._inherit,
                weight_sources=weight_sources,
            )
        return self._inheriting[weight_sources]

    @staticmethod
    def for_run(context: RunContext, builder: NetworkBuilder, teachers: Sequence[Teacher] = ()) -> "Distiller":
        """Create the distiller of a run from its config and data."""
        config = context.config
        outputs = SharedOutputs(
            teachers,
            context.store,
            recipe=context.recipe,
            data=context.data,
            views=context.views,
            numerics=context.numerics,
        )
        trainer = Trainer(
            context.data,
            builder,
            outputs,
            context.store,
            options=config.distill,
            recipe=context.recipe,
            views=context.views,
            numerics=context.numerics,
            qat_start=config.quantization.qat_start,
            score=context.score,
            callback=context.callback,
        )
        method, inherit = config.chain.method, config.search.inherit
        return Distiller(trainer, teachers, assistant_method=method, seed=context.seed, inherit=inherit)

    def distill(
        self,
        candidate: Candidate,
        seed: int,
        epochs: int,
        *,
        until: int | None = None,
        restarts: tuple[int, ...] = (),
    ) -> TrainedModel:
        """Train what the candidate deploys.

        Args:
            candidate: student, chain, recipe and precision.
            seed: of the student's training.
            epochs: length of the schedule.
            until: epochs to train for now; None: all of the schedule.
            restarts: epochs at which the learning rate has come down to 0 and starts again from its peak.

        Raises:
            TrialError: it cannot be trained.
        """
        training = self.trainer.recipe.with_choices(candidate.recipe.training)
        schedule = Schedule.of(self.trainer.options, training, epochs, restarts)
        precision = training_precision(candidate.precision)
        job = TrainingJob(candidate.student, candidate.recipe, training, schedule, seed, until or epochs, precision)
        method, policy = make_method(candidate.recipe.method), load_policy(candidate.policy)
        if method.generations:
            return self.train(job, [self._generation(job, method.generations)], policy)
        return policy.distill(self, job, candidate)

    def check(
        self,
        methods: Sequence[str],
        student: Architecture,
        precisions: Sequence[str],
        progressions: Sequence[Progression] = ("none",),
    ) -> None:
        """Let every method meet the student and the teachers before anything is trained.

        Args:
            methods: names.
            student: a small architecture.
            precisions: those that the search may choose.
            progressions: likewise.

        Raises:
            InputError: one of the methods cannot work with these networks.
        """
        trained = {training_precision(precision) for precision in precisions}
        shown = [Teaching(progression=p) for p in progressions]
        for name, precision, teaching in product(methods, sorted(trained), shown):
            try:
                with unchanged_settings():
                    self.untrained(name, student, precision, teaching)
            except InputError as error:
                raise InputError(f"method {display_name(name)!r}: {error}") from error
            except TrialError:
                raise
            except (Exception, SystemExit) as error:  # of a network or a method that is the user's own
                reason = describe_error(error)
                if "view size" in reason:
                    reason += " (networks of a space run channels last)"
                raise InputError(
                    f"method {display_name(name)!r} on a network of space {student.space!r}: {reason}"
                ) from error

    def untrained(
        self, name: str, student: Architecture, precision: str = "fp32", teaching: Teaching | None = None
    ) -> Training:
        """Set up a training with this method straight from the teachers; nothing of it is kept.

        Raises:
            InputError: the method cannot work with these networks.
        """
        method, policy = make_method(name), load_policy(DEFAULT_POLICY)
        teaching = usable_teaching(teaching or Teaching(), method)
        job = self._whole_training(student, Recipe(name, teaching=teaching), self._seed, precision)
        teachers = self.first_teacher() if method.generations else self.teachers_for(method, policy, ())
        loss = with_teaching(policy.make_method(job.recipe, len(teachers)), teaching)
        return self.trainer.training(job, self.trainer.build(job, 0), teachers, loss)

    def prepare(self, candidate: Candidate) -> None:
        """Train what is missing of the assistants that the candidate's student learns from."""
        load_policy(candidate.policy).prepare(self, candidate)

    def first_teacher(self) -> list[Teacher]:
        """The teacher of methods that take one; empty if the run has none."""
        return list(self._roots[:1])

    def teachers_for(self, method: Method, policy: ChainPolicy, assistants: tuple[Architecture, ...]) -> list[Teacher]:
        """List what a link learns from, training the assistants that are missing.

        Args:
            method: of the link.
            policy: of its chain.
            assistants: before the link, largest first.
        """
        if method.teachers == "none":
            return []
        roots = list(self._roots) if method.teachers == "several" else self.first_teacher()
        return policy.teachers(self, roots, assistants) if assistants else roots

    def assistant(self, policy: ChainPolicy, assistants: tuple[Architecture, ...]) -> Teacher:
        """The last of these assistants as a teacher, trained in full if it is missing."""
        if (policy.name, assistants) not in self._assistants:
            recipe = Recipe(self._assistant_method)
            teachers = self.teachers_for(make_method(recipe.method), policy, assistants[:-1])
            trained = self.train(self._whole_training(assistants[-1], recipe, self._seed), teachers, policy)
            self._assistants[policy.name, assistants] = self.as_teacher(trained, assistants[-1])
        return self._assistants[policy.name, assistants]

    def _generation(self, job: TrainingJob, number: int) -> Teacher:
        """The student's own architecture, trained in full `number` times, each time from the one before."""
        recipe = Recipe(NO_DISTILLATION) if number == 1 else job.recipe
        teachers = [] if number == 1 else [self._generation(job, number - 1)]
        earlier = self._whole_training(job.student, recipe, job.seed + number * GENERATION_SEED_STEP)
        return self.as_teacher(self.train(earlier, teachers, load_policy(DEFAULT_POLICY)), job.student)

    def _whole_training(self, network: Architecture, recipe: Recipe, seed: int, precision: str = "fp32") -> TrainingJob:
        """A full training by the run's own recipe."""
        training = self.trainer.recipe
        schedule = Schedule.of(self.trainer.options, training)
        return TrainingJob(network, recipe, training, schedule, seed, schedule.epochs, precision)

    def train(
        self,
        job: TrainingJob,
        teachers: Sequence[Teacher],
        policy: ChainPolicy,
        *,
        added_to: Sequence[nn.Module] = (),
    ) -> TrainedModel:
        """Find or train one link of a chain.

        Args:
            job: the link's training.
            teachers: what it learns from.
            policy: creates the link's loss.
            added_to: networks whose logits are summed with the link's; its accuracy is then the sum's.

        Raises:
            TrialError: it cannot be trained.
        """
        source, teaching = None, job.recipe.teaching
        teachers = [teacher.at_checkpoint(teaching.checkpoint) for teacher in teachers]
        if self._inherit and teachers:
            shell = self.trainer.shell(job)
            store = self.trainer.cache.store
            source = find_weight_source(shell, self.weight_sources, [*self._roots, *teachers], store)

        def method() -> Method:
            return with_teaching(policy.make_method(job.recipe, len(teachers)), teaching)

        return self.trainer.train(job, teachers, method, source=source, added_to=added_to)

    def as_teacher(self, trained: TrainedModel, architecture: Architecture) -> Teacher:
        """A trained network in the teacher's place."""
        builder = self.builder
        description, parameters = builder.description(architecture), builder.parameters(architecture)
        return Teacher(trained.model, trained.key, description, parameters, builder.macs(architecture))
