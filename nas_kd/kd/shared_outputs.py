"""The outputs of teachers and assistants on the training samples, shared by every student that learns from them."""

from collections.abc import Sequence
from itertools import product

from nas_kd.context.callbacks import Callback
from nas_kd.data.augment import TrainingViews
from nas_kd.data.dataset import Dataset
from nas_kd.engine.numerics import Numerics
from nas_kd.engine.teacher_outputs import Teacher, TeacherOutputs, can_use_cache
from nas_kd.methods.base import Method
from nas_kd.methods.combine import make_method
from nas_kd.results.mixed_plan import MixedPlan
from nas_kd.results.training_recipe import TrainingRecipe
from nas_kd.store.store import Store


class SharedOutputs:
    """Outputs of each teacher of a run, kept in this process's memory and in the store for all processes."""

    def __init__(
        self,
        roots: Sequence[Teacher],
        store: Store,
        *,
        recipe: TrainingRecipe,
        data: Dataset,
        views: TrainingViews,
        numerics: Numerics,
    ) -> None:
        """Serve trainings on one data set.

        Args:
            roots: the run's own teachers.
            store: keeps cached outputs.
            recipe: of the run's trainings, unless a candidate has its own.
            data: that the trainings are on.
            views: the training split as students and teachers are shown it.
            numerics: number format and memory layout.
        """
        self._roots, self._store, self._recipe = tuple(roots), store, recipe
        self._data, self._views, self._numerics = data, views, numerics
        self._outputs: dict[tuple[str, str, str, int], TeacherOutputs] = {}

    def of(self, teacher: Teacher, recipe: TrainingRecipe | None = None) -> TeacherOutputs:
        """The outputs of a teacher or an assistant for trainings by a recipe (default: the run's).

        They are computed in batches of exactly the recipe's size, on samples augmented and mixed as it says.
        """
        recipe = recipe or self._recipe
        size = min(recipe.batch_size, self._data.epoch_samples)
        shown = recipe.augment, recipe.mix
        place = teacher.key, *shown, size
        if place not in self._outputs:
            view = (self._views.teacher if teacher.paired else self._views.student)(*shown)
            self._outputs[place] = TeacherOutputs(
                teacher, view, size, self._numerics, self._store, unlabelled=self._views.unlabelled(*shown)
            )
        return self._outputs[place]

    def cached_epochs(self, methods: Sequence[str], until: int) -> range:
        """Epochs, up to `until`, whose cached outputs students of these methods look up, each once."""
        if not _readers(methods):
            return range(0)
        return range(1) if self._views.teacher(self._recipe.augment, self._recipe.mix).identity else range(until)

    def precompute(self, methods: Sequence[str], epochs: Sequence[int], callback: Callback) -> None:
        """Leave in the store what students of these methods look up in these epochs.

        Args:
            methods: names of distillation methods.
            epochs: of augmentation, from 0.
            callback: receives how far this has come.
        """
        several = any(method.teachers == "several" for method in _readers(methods))
        teachers = self._roots if several else self._roots[:1]
        total = len(teachers) * len(epochs)
        for done, (teacher, epoch) in enumerate(product(teachers, epochs), start=1):
            self.of(teacher).prepare(self._passes(epoch, unlabelled=False))
            if self._data.unlabelled is not None:
                self.of(teacher).prepare(self._passes(epoch, unlabelled=True), unlabelled=True)
            callback.on_progress("teacher's outputs, a worker's share: epoch", done, total)

    def _passes(self, epoch: int, *, unlabelled: bool) -> range:
        """Passes over the samples of a kind that an epoch shows some of."""
        if self._data.unlabelled is None:
            return range(epoch, epoch + 1)
        plan = MixedPlan(len(self._data.train), len(self._data.unlabelled), self._data.unlabelled.share)
        return plan.passes(self._recipe.batch_size, epoch, unlabelled=unlabelled)


def _readers(methods: Sequence[str]) -> list[Method]:
    """Methods whose students find all that they learn from the run's own teachers in the store."""
    made = [make_method(name) for name in methods]
    return [m for m in made if m.teachers != "none" and not m.generations and can_use_cache(m.needs)]
