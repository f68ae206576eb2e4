"""What teachers and assistants say of the training samples, shared by all who learn from them."""

from collections.abc import Sequence
from itertools import product

from nas_kd.context.run_context import Context
from nas_kd.engine.teacher_outputs import Teacher, TeacherOutputs, can_use_cache
from nas_kd.methods.base import Method
from nas_kd.methods.combine import make_method


class SharedOutputs:
    """Outputs of each teacher of a run, kept in memory by this process and in the store for all of them."""

    def __init__(self, context: Context, roots: Sequence[Teacher]) -> None:
        """`roots`: the config's teachers."""
        self._context, self._roots = context, tuple(roots)
        self._outputs: dict[str, TeacherOutputs] = {}

    def of(self, teacher: Teacher) -> TeacherOutputs:
        """The outputs of a teacher or an assistant."""
        context = self._context
        if teacher.key not in self._outputs:
            batch_size = min(context.config.distill.batch_size, len(context.data.train))
            augmenter = context.teacher_augmenter if teacher.paired else context.augmenter
            self._outputs[teacher.key] = TeacherOutputs(teacher, augmenter, batch_size, context.numerics, context.store)
        return self._outputs[teacher.key]

    def epochs(self, until: int) -> range:
        """Epochs, up to `until`, in which the config's methods look up what its teachers say, each once."""
        if not self._readers():
            return range(0)
        return range(1) if self._context.teacher_augmenter.identity else range(until)

    def prepare(self, epochs: Sequence[int]) -> None:
        """Leave in the store what the config's methods look up in these epochs."""
        several = any(method.teachers == "several" for method in self._readers())
        teachers = self._roots if several else self._roots[:1]
        total = len(teachers) * len(epochs)
        for done, (teacher, epoch) in enumerate(product(teachers, epochs), start=1):
            self.of(teacher).prepare([epoch])
            self._context.callback.on_progress("teacher's outputs, a worker's share: epoch", done, total)

    def _readers(self) -> list[Method]:
        """Methods whose students find all that they learn from the config's teachers in the store."""
        methods = [make_method(name) for name in self._context.config.distill.methods]
        return [m for m in methods if m.teachers != "none" and not m.generations and can_use_cache(m.needs)]
