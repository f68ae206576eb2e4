"""Adjusts a teacher to its students: before the search it is trained together with cuts of itself, where that pays.

Student-friendly teachers (Park et al. 2021, arXiv:2102.07650) are trained together with branches that look like their
students. Here students are cuts of the teacher, so the branches are its own channels: the whole network learns from
labels, the smallest and random cuts learn from the whole one (`InPlaceDistillation`), and all gradients reach its
weights. What it became is used only if it pays: if it is not worse, cuts with its weights are better, and so are these
cuts as students. The last is tried last, as it costs most, and has to be: weights that are far better to begin with may
leave students where they were.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor, nn

from nas_kd.context.run_context import RunContext
from nas_kd.engine.batch_statistics import re_estimate, statistics_batches
from nas_kd.engine.evaluation import evidence_of
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.engine.training import Training
from nas_kd.errors import InputError, TrialError
from nas_kd.kd.candidate_failure import as_trial_error
from nas_kd.kd.choose_recipe import probe_method
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.ready_teacher import ReadyTeacher
from nas_kd.methods.sandwich import InPlaceDistillation
from nas_kd.models.derived.derived_space import DerivedSpace
from nas_kd.models.supernet import Supernet
from nas_kd.nas.supernet.student_friendly_plan import (
    COMPARED_COSTS,
    DRAWN_PER_STEP,
    LEAST_COST,
    MAX_DRAWS,
    POOL_SIZE,
    StudentFriendlyPlan,
    student_friendly_recipe,
)
from nas_kd.nas.supernet.supernet_trainer import trained_supernet
from nas_kd.results.candidate import Architecture, Candidate, Recipe
from nas_kd.results.student_friendly_record import (
    BeforeAfter,
    CutComparison,
    StudentFriendlyRecord,
    describe_student_friendly,
)
from nas_kd.scores.base import Evidence
from nas_kd.serialization import fingerprint
from nas_kd.store.store import Entry

STATISTICS_BATCHES = 16
KIND = "student_friendly"  # of entries in the store


@dataclass(frozen=True)
class StudentFriendly:
    """A teacher after its training together with cuts of itself: as it was, if that did not pay.

    Attributes:
        teacher: that teaches.
        context: of the run, whose space has this teacher's weights.
        record: of the training, and of what it was worth.
    """

    teacher: Teacher
    context: RunContext
    record: StudentFriendlyRecord


def student_friendly(context: RunContext, teacher: Teacher) -> StudentFriendly | None:
    """Train a teacher together with cuts of itself, or find it in the store; None where the config does not ask for it.

    Args:
        context: of the run, with the space that is made of the teacher, and the recipe that follows from rules.
        teacher: ready to run.

    Raises:
        InputError: it cannot be trained.
    """
    if not context.config.teacher[0].student_friendly_epochs:
        return None
    if not isinstance(context.space, DerivedSpace):
        name = type(context.space).__name__
        raise InputError(f"teacher.student_friendly_epochs: {name} is not made by nas_kd.DerivedSpace")
    adjusting = _Adjusting(context, context.space, teacher)
    try:
        with as_trial_error():
            record = adjusting.record()
            if not record.is_kept:
                return StudentFriendly(teacher, context, record)
            adjusted, space = adjusting.adjusted()
    except TrialError as error:
        raise InputError(f"teacher.student_friendly_epochs: the training failed: {error}") from error
    return StudentFriendly(adjusted, replace(context, space=space), record)


def prepare_student_friendly(
    context: RunContext, teachers: Sequence[ReadyTeacher]
) -> tuple[RunContext, list[ReadyTeacher]]:
    """Adjust the first teacher to its students where the config asks for it, and note what that was worth.

    Args:
        context: of the run, with the space that is made of its teacher, if it has one.
        teachers: of the run, as they were given.

    Returns:
        The context, whose space has the weights of the teacher that teaches; and the teachers with it in its place.

    Raises:
        InputError: it cannot be trained.
    """
    first, *others = teachers
    if (found := student_friendly(context, first.teacher)) is None:
        return context, list(teachers)
    context.callback.on_note(f"teacher: {describe_student_friendly(found.record, context.score.title)}")
    adjusted = found.teacher if found.record.is_kept else None
    record = first.record.model_copy(update={"student_friendly": found.record})
    return found.context, [replace(first, adjusted=adjusted, record=record), *others]


class _Adjusting:
    """One teacher's training together with cuts of itself.

    Attributes:
        key: of the adjusted teacher.
    """

    def __init__(self, context: RunContext, space: DerivedSpace, teacher: Teacher) -> None:
        self._of_students, self._context = context, context.for_teacher()
        self._space, self._teacher = space, teacher
        self._builder, self._recipe = NetworkBuilder(context.data, space), student_friendly_recipe(context)
        self._trainer = Distiller.for_run(self._context, self._builder).trainer
        self._schedule = Schedule.of(context.config.distill, self._recipe)
        # Which cuts take part follows from this and from the space, whose identity every key has.
        cuts = [LEAST_COST, POOL_SIZE, MAX_DRAWS, DRAWN_PER_STEP, STATISTICS_BATCHES]
        facts = {KIND: cuts, "seed": context.seed, "method": InPlaceDistillation.version}
        augmentation = self._trainer.augmentation_key(self._recipe)
        self.key = self._trainer.cache.key_of(facts, self._schedule, augmentation, [teacher])

    @cached_property
    def _plan(self) -> StudentFriendlyPlan:
        return StudentFriendlyPlan.of(self._context, self._builder)

    @cached_property
    def _batches(self) -> list[Tensor]:
        view = self._context.views.student(self._recipe.augment, self._recipe.mix)
        size, seed = self._recipe.batch_size, self._context.seed
        return statistics_batches(view, self._context.numerics, batch_size=size, count=STATISTICS_BATCHES, seed=seed)

    def record(self) -> StudentFriendlyRecord:
        """What the training was worth, as it was found once."""
        store, key = self._context.store, self._record_key()
        with store.lock(KIND, key):
            if (known := store.load_json(KIND, key)) is not None:
                return StudentFriendlyRecord.model_validate(known)
            self._context.callback.on_stage("training the teacher together with cuts of itself")
            record = self._compared()
            store.save_json(KIND, key, record.model_dump(mode="json"))
            return record

    def _record_key(self) -> str:
        """Content key of the comparison, which has students' trainings in it."""
        trainer = Distiller.for_run(self._of_students, self._builder).trainer
        recipe = self._of_students.recipe
        facts = {KIND: COMPARED_COSTS, "method": self._method, "seed": self._context.seed, "adjusted": self.key}
        schedule = Schedule.of(self._of_students.config.distill, recipe)
        return trainer.cache.key_of(facts, schedule, trainer.augmentation_key(recipe), [self._teacher])

    @property
    def _method(self) -> str:
        return probe_method(self._context.config.distill.methods)

    def adjusted(self) -> tuple[Teacher, DerivedSpace]:
        """The adjusted teacher, and the space with its weights."""
        space = self._space.with_weights(self._trained().tensors)
        model = self._build(space, self._builder.largest()).eval()
        description = f"{self._teacher.description}, student-friendly"
        return replace(self._teacher, model=model, key=self.key, description=description), space

    def _trained(self) -> Entry:
        """The adjusted teacher's weights with its own batch statistics, made or found in the store.

        All processes read the same file, so that the space made of it has the same identity.
        """
        store, elastic_key = self._context.store, fingerprint([self.key, "elastic"])

        def begin() -> Training:
            plan = self._plan
            elastic = Supernet(lambda a: self._build(self._space, a), plan.whole, plan.whole)
            method = InPlaceDistillation(plan.smallest, plan.pool, DRAWN_PER_STEP)
            setup = self._trainer.setup(self._schedule, self._recipe, self._context.seed, method)
            return Training(elastic, [], method, setup, lambda _: elastic)

        with store.lock("weights", self.key):
            if (entry := store.load("weights", self.key)) is None:
                callback, what = self._context.callback, "the teacher and its cuts"
                trained = trained_supernet(store, elastic_key, begin, callback=callback, description=what)
                network = self._with_statistics(self._space.with_weights(trained.tensors), self._builder.largest())
                state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
                store.save("weights", self.key, state, trained.meta)
                store.remove("weights", elastic_key)
                entry = store.load("weights", self.key)
        if entry is None:
            raise OSError(f"{store.root}: the adjusted teacher was written and cannot be read")
        return entry

    def _build(self, space: DerivedSpace, architecture: Architecture) -> nn.Module:
        return space.build(architecture, self._context.data.input_shape, self._context.data.n_classes)

    def _with_statistics(self, space: DerivedSpace, architecture: Architecture) -> nn.Module:
        """A network with the weights of a space and batch statistics of its own."""
        return re_estimate(self._context.numerics.place(self._build(space, architecture)), self._batches)

    def _evidence(self, network: nn.Module) -> Evidence:
        data, numerics = self._context.data, self._context.numerics
        return evidence_of(numerics.place(network), data.val, data.task, numerics)

    def _compared(self) -> StudentFriendlyRecord:
        started, recipe, plan = time.perf_counter(), self._recipe, self._plan
        chosen = time.perf_counter()
        trained_s = float(self._trained().meta["seconds"])
        trained, (adjusted, space) = time.perf_counter(), self.adjusted()
        macs = plan.macs(self._builder)
        record = StudentFriendlyRecord(
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            augment=recipe.augment,
            networks_per_step=len(macs),
            macs=sum(macs),
            seconds=round(trained_s, 3),
            compared_s=0.0,
            teacher=self._scores(self._teacher.model, adjusted.model),
            cuts=tuple(self._inherited(cut, space) for cut in plan.compared),
            student_epochs=0,
        )
        if record.is_promising:
            record = self._with_students(record, adjusted, space)
        seconds = chosen - started + time.perf_counter() - trained
        return record.model_copy(update={"compared_s": round(seconds, 3)})

    def _inherited(self, cut: Architecture, space: DerivedSpace) -> CutComparison:
        """A cut with the weights of either teacher, not trained itself."""
        macs = self._builder.macs(cut)
        return CutComparison(
            description=self._builder.description(cut),
            macs=macs,
            cost=round(macs / self._builder.macs(self._plan.whole), 4),
            inherited=self._scores(*(self._with_statistics(of, cut) for of in (self._space, space))),
        )

    def _with_students(
        self, record: StudentFriendlyRecord, adjusted: Teacher, space: DerivedSpace
    ) -> StudentFriendlyRecord:
        """The record with the cuts as students of either teacher, by the run's recipe as rules have it."""
        self._context.callback.on_stage("distilling cuts from the teacher before and after")
        epochs, seed = self._of_students.recipe.epochs, self._context.seed
        cuts = []
        for cut, known in zip(self._plan.compared, record.cuts, strict=True):
            students = []
            for teacher, of in ((self._teacher, self._space), (adjusted, space)):
                context = replace(self._of_students, space=of)
                distiller = Distiller.for_run(context, NetworkBuilder.for_run(context), [teacher])
                students.append(distiller.distill(Candidate(cut, (), Recipe(self._method)), seed, epochs).model)
            cuts.append(known.model_copy(update={"distilled": self._scores(*students)}))
        return record.model_copy(update={"cuts": tuple(cuts), "student_epochs": epochs})

    def _scores(self, before: nn.Module, after: nn.Module) -> BeforeAfter:
        score, (first, second) = self._context.score, map(self._evidence, (before, after))
        return BeforeAfter(before=score.of(first), after=score.of(second), gain=score.gain([second], [first]))
