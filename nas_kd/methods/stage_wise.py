"""One stage's features at a time: stages are taught from early to late, then labels and outputs alone.

The schedule is cut into S + 1 equal shares, S the number of stages that both networks have. In share k the method is
shown the features of stage k and nothing else of them; in the last share its terms on features are left out, so that
the student ends with the labels and the terms of methods on logits. Features first and the task last is the order of
FitNets (Romero et al. 2015, arXiv:1412.6550, section 2.2) and of stage-wise distillation (Kulkarni et al. 2019,
arXiv:1911.06786). Unlike there, labels are learnt from the start and no layer is ever frozen.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

from torch import Generator, Tensor, nn

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.feature.alignment import stage_pairs
from nas_kd.results.teaching import share_at


def _take_over(wrapper: Method, method: Method) -> None:
    """Give a wrapper what the engine reads of a method."""
    wrapper.name = method.name  # type: ignore[misc]
    wrapper.needs, wrapper.teachers, wrapper.tunable = method.needs, method.teachers, method.tunable
    wrapper.ce_weight, wrapper.target_grad_ratio = method.ce_weight, method.target_grad_ratio
    wrapper.unscaled_terms, wrapper.train_cost_factor = method.unscaled_terms, method.train_cost_factor
    wrapper.clipped, wrapper.version, wrapper.standardizes = method.clipped, method.version, method.standardizes
    wrapper.sees_standardized, wrapper.by_stage = method.sees_standardized, method.by_stage
    wrapper.any_classes, wrapper.optional = method.any_classes, method.optional


class StageWise(Method):
    """Trains a copy of a method for each stage, one after the other; each copy is calibrated by itself."""

    source = "Romero 2015, arXiv:1412.6550"
    summary = "a method applied to one stage after another"

    def __init__(self, method: Method) -> None:
        """Prepare to copy a method.

        Args:
            method: not attached yet; its terms can be computed from the features of a single stage.
        """
        super().__init__(method.temperature, method.strength)
        _take_over(self, method)
        self._original = (method,)  # in a tuple: it is copied, and no module of this one
        self._stages = nn.ModuleList()

    def attach(self, context: MethodContext) -> None:
        """Attach a copy of the method to each stage that all networks have.

        Raises:
            InputError: one of the networks has no feature map, or the method cannot work with one of the stages.
        """
        student = context.student_outputs.features
        by_teacher = [stage_pairs(student, outputs.features) for outputs in context.teacher_outputs]
        n_stages = min(map(len, by_teacher))
        for stage, pairs in enumerate(zip(*(pairs[-n_stages:] for pairs in by_teacher), strict=True)):
            shown = ShownStage(pairs[0][0], tuple(of_teacher for _, of_teacher in pairs))
            one = OneStage(deepcopy(self._original[0]), stage, n_stages, shown)
            one.attach(context)
            self._stages.append(one)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the stage that is taught now, if there is one."""
        return {name: term for part in self.parts() for name, term in part(student, teachers, batch).items()}

    @property
    def has_own_order(self) -> bool:
        """Whether the method orders samples."""
        return self._original[0].has_own_order

    def order(self, labels: Tensor, generator: Generator) -> Tensor:
        """Order the samples as the method does."""
        return self._original[0].order(labels, generator)

    def parts(self) -> Sequence[Method]:
        """One part for each stage, once attached."""
        return [part for part in self._stages if isinstance(part, Method)] or (self,)


class ShownStage(NamedTuple):
    """Numbers of the stages that are paired: of the student, and of each teacher; from 0."""

    student: int
    teachers: tuple[int, ...]


class OneStage(Method):
    """Shows a method the features of one stage, in this stage's share of the schedule."""

    source = StageWise.source
    summary = "a method applied to one stage"

    def __init__(self, method: Method, stage: int, n_stages: int, shown: ShownStage) -> None:
        """Show a method one stage.

        Args:
            method: not attached yet.
            stage: counted from 0, among those that all networks have.
            n_stages: how many these are.
            shown: which of each network's stages it is.
        """
        super().__init__(method.temperature, method.strength)
        _take_over(self, method)
        self.method = method
        self._stage, self._n_stages, self._indices = stage, n_stages, shown
        self.name = self._named(method.name)  # type: ignore[misc]
        self.unscaled_terms = frozenset(map(self._named, method.unscaled_terms))

    def _named(self, name: str) -> str:
        return f"{name}_stage{self._stage + 1}"

    def attach(self, context: MethodContext) -> None:
        """Attach the method to this stage alone."""
        self.method.attach(
            replace(
                context,
                student_outputs=_at_stage(context.student_outputs, self._indices.student),
                teacher_outputs=tuple(self._of_teachers(context.teacher_outputs)),
            )
        )

    def _of_teachers(self, teachers: Sequence[Outputs]) -> list[Outputs]:
        return [_at_stage(t, stage) for t, stage in zip(teachers, self._indices.teachers, strict=True)]

    def is_taught_at(self, progress: float) -> bool:
        """Whether it is this stage's turn; past the schedule (progress 1), which calibration looks at, all have it."""
        return progress >= 1 or share_at(progress, self._n_stages + 1) == self._stage

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return the method's terms for this stage, `fitnet_stage1`; none outside of its share of the schedule."""
        if not self.is_taught_at(batch.progress):
            return {}
        terms = self.method(_at_stage(student, self._indices.student), self._of_teachers(teachers), batch)
        return {self._named(name): term for name, term in terms.items()}


def _at_stage(outputs: Outputs, stage: int) -> Outputs:
    """Outputs with the features of one stage alone."""
    return outputs._replace(features=(outputs.features[stage],), stem=None)
