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

from torch import Generator, Tensor, nn

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.feature.alignment import paired_stages
from nas_kd.results.teaching import share_at


def _take_over(wrapper: Method, method: Method) -> None:
    """Give a wrapper what the engine reads of a method."""
    wrapper.name = method.name  # type: ignore[misc]
    wrapper.needs, wrapper.teachers, wrapper.tunable = method.needs, method.teachers, method.tunable
    wrapper.ce_weight, wrapper.target_grad_ratio = method.ce_weight, method.target_grad_ratio
    wrapper.unscaled_terms, wrapper.train_cost_factor = method.unscaled_terms, method.train_cost_factor
    wrapper.clipped, wrapper.version, wrapper.standardizes = method.clipped, method.version, method.standardizes
    wrapper.sees_standardized, wrapper.by_stage = method.sees_standardized, method.by_stage


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
        features = [outputs.features for outputs in context.teacher_outputs]
        n_stages = min(len(paired_stages(context.student_outputs.features, f)) for f in features)
        for stage in range(n_stages):
            one = OneStage(deepcopy(self._original[0]), stage, n_stages)
            one.attach(context)
            self._stages.append(one)

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the stage that is taught now, if there is one."""
        return {name: term for part in self.parts() for name, term in part(student, teachers, batch).items()}

    def order(self, labels: Tensor, generator: Generator) -> Tensor:
        """Order the samples as the method does."""
        return self._original[0].order(labels, generator)

    def parts(self) -> Sequence[Method]:
        """One part for each stage, once attached."""
        return [part for part in self._stages if isinstance(part, Method)] or (self,)


class OneStage(Method):
    """Shows a method the features of one stage, in this stage's share of the schedule."""

    source = StageWise.source
    summary = "a method applied to one stage"

    def __init__(self, method: Method, stage: int, n_stages: int) -> None:
        """Show a method one stage.

        Args:
            method: not attached yet.
            stage: counted from 0, among those that all networks have.
            n_stages: how many these are.
        """
        super().__init__(method.temperature, method.strength)
        _take_over(self, method)
        self.method = method
        self._stage, self._n_stages = stage, n_stages
        self.name = self._named(method.name)  # type: ignore[misc]
        self.unscaled_terms = frozenset(map(self._named, method.unscaled_terms))

    def _named(self, name: str) -> str:
        return f"{name}_stage{self._stage + 1}"

    def attach(self, context: MethodContext) -> None:
        """Attach the method to this stage alone."""
        self.method.attach(
            replace(
                context,
                student_outputs=self._shown(context.student_outputs),
                teacher_outputs=tuple(map(self._shown, context.teacher_outputs)),
            )
        )

    def _shown(self, outputs: Outputs) -> Outputs:
        """Outputs with the features of this stage alone; stages are paired from the last."""
        return outputs._replace(features=(outputs.features[self._stage - self._n_stages],), stem=None)

    def is_taught_at(self, progress: float) -> bool:
        """Whether it is this stage's turn; past the schedule (progress 1), which calibration looks at, all have it."""
        return progress >= 1 or share_at(progress, self._n_stages + 1) == self._stage

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Return the method's terms for this stage, `fitnet_stage1`; none outside of its share of the schedule."""
        if not self.is_taught_at(batch.progress):
            return {}
        terms = self.method(self._shown(student), [self._shown(t) for t in teachers], batch)
        return {self._named(name): term for name, term in terms.items()}
